"""The command: tables at 80 columns, JSON, files, and every argument checked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from compare_case import names, save, scores, vectors

from helpers.cli import personascope, personascope_process
from personascope import api
from personascope.errors import UsageError

FEW = ("--draws", "100")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of two widths, one of which has other roles too, and one without an axis."""
    at = tmp_path_factory.mktemp("compare")
    rows = vectors(scores())
    save(at / "one/map", rows)
    save(at / "two/map", rows + 0.1 * np.random.default_rng(3).normal(size=rows.shape))
    save(at / "wide/map", vectors(scores(), d=30), roles=(*names()[:30], *(f"only{i}" for i in range(10))))
    save(at / "noise/map", rows, garbled=1.0)
    save(at / "few/map", vectors(scores(20)), roles=tuple(f"only{i}" for i in range(20)))
    return at


def test_the_tables_fit_80_columns(place):
    done = personascope_process("compare", place / "one", place / "wide", place / "noise", *FEW, COLUMNS="80")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "…" not in done.out
    said = " ".join(done.out.split())
    for words in (
        "warning: no axis was found in C (noise, layer 1): 100% of the responses are garble or loops",
        "A and B: 30 shared roles",
        "in A alone, 10: role030, role031",
        "in B alone, 10: only0, only1",
        "not comparable: widths 24 and 30",
        "all 5 (Procrustes)",
        "principal angles of the components: 0, 0, 0, 0, 0 degrees",
        "Every pair",
        "Assignment and rotation are found anew in every permutation",
    ):
        assert words in said, words


def test_json_has_every_figure(place):
    done = personascope("compare", place / "one", place / "two", "--json", *FEW)
    assert done.code == 0, done.err
    data = json.loads(done.out)
    found = api.compare([place / "one", place / "two"], draws=100)
    assert data == json.loads(json.dumps(found.to_dict()))
    assert data["pairs"][0]["geometry"]["axis_cosine"]["value"] > 0.9
    assert data["pairs"][0]["components"]["order"][0]["p_value"] == pytest.approx(1 / 101)


def test_layers_of_one_map(place):
    done = personascope("compare", f"{place / 'one'}:0", place / "one", "--json", *FEW)
    assert [one["layer"] for one in json.loads(done.out)["maps"]] == [0, 1]
    done = personascope("compare", f"{place / 'one'}:1", place / "one", "--layer", "0", "--json", *FEW)
    assert [one["layer"] for one in json.loads(done.out)["maps"]] == [1, 0]
    # From Python, as a pair or as the same text; an opened map needs no folder.
    opened = api.PersonaMap.open(place / "one")
    for given in ((place / "one", 0), (opened, 0), f"{place / 'one'}:0"):
        assert [one.layer for one in api.compare([given, opened], draws=100).maps] == [0, 1]


def test_a_folder_whose_name_ends_in_a_number_is_that_folder(tmp_path, monkeypatch):
    save(tmp_path / "run:1/map", vectors(scores()))
    save(tmp_path / "run/map", vectors(scores()))
    monkeypatch.chdir(tmp_path)
    found = api.compare(["run:1", "run:0"], draws=100)
    assert [(one.name, one.layer) for one in found.maps] == [("run:1", 1), ("run", 0)]


def test_the_same_map_is_said(place):
    done = personascope("compare", place / "one", place / "one", *FEW)
    assert done.code == 0
    assert "the same map at the same layer" in " ".join(done.out.split())


def test_files(place, tmp_path):
    done = personascope("compare", place / "one", place / "wide", "--out", tmp_path / "x.json", *FEW)
    assert done.code == 0, done.err
    assert "x.json" in done.err
    assert json.loads((tmp_path / "x.json").read_text())["pairs"][0]["not_comparable"] == "widths 24 and 30"
    done = personascope("compare", place / "one", place / "wide", "--out", tmp_path / "x.html", *FEW)
    assert done.code == 0, done.err
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert re.search(r'id="payload">\{"maps":\[\{"label":"A"', page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.html", "x.json"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "Missing argument"),
        (["one"], 2, "1 map cannot be compared"),
        (["one", "nowhere"], 1, "nowhere"),
        (["one", "one:9"], 2, "layer 9 is not in the map"),
        (["one", "two", "--layer", "9"], 2, "layer 9 is not in the map"),
        (["one", "two", "--layer", "-1"], 2, "--layer"),
        (["one", "two", "--components", "11"], 2, "--components"),
        (["one", "two", "--draws", "99"], 2, "--draws"),
        (["one", "few"], 2, "share 0 roles (of 40 and 20)"),
        (["one", "two", "--out", "x.pdf"], 2, "end its name in .html or .json"),
        (["one", "two", "--out", "nowhere/x.json", *FEW], 1, "nowhere"),
    ],
)
def test_bad_arguments(args, code, words, place, monkeypatch):
    monkeypatch.chdir(place)
    done = personascope("compare", *args)
    assert done.code == code, done.err
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_what_cannot_be_written_is_known_before_a_map_is_read(tmp_path):
    with pytest.raises(UsageError, match="neither a page nor JSON"):
        api.compare(["nowhere", "nowhere"], out=tmp_path / "x.txt")


def test_a_comparison_needs_no_torch(place):
    code = (
        "import sys\nfrom personascope.cli import run\n"
        f"assert run(['compare', {str(place / 'one')!r}, {str(place / 'two')!r}, '--draws', '100']) == 0\n"
        "assert not {'torch', 'transformers', 'plotly'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
