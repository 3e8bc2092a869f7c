"""The names at the top of the package: how many, what they cost, what a wrong one is told, their types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import personascope as ps

NAMES = [
    "Cap",
    "Monitor",
    "PersonaMap",
    "Plan",
    "Steer",
    "calibrate",
    "compare",
    "evaluate",
    "load",
    "map",
    "open",
    "serve",
    "simulate",
    "steered",
    "traits",
]

TYPED = """
from pathlib import Path
from typing import assert_type

import personascope as ps
from personascope import load
from personascope.api import Evaluation, HarmEvaluation, Sweep
from personascope.api.notebook import Direction, Model, ProjectedChats, Reply, SideBySide
from personascope.report import Plot


def typed(chat: list[dict[str, str]]) -> None:
    model = load("smollm2-135m")
    assert_type(model, Model)
    pmap = ps.map(model, profile="quick", judge="rules", roles=40)
    assert_type(pmap, ps.PersonaMap)
    assert_type(ps.open(Path("runs/demo")), ps.PersonaMap)
    assert_type(0.7 * pmap.axis() - 0.3 * pmap.direction("pc2"), Direction)
    found = pmap.project(chat, model)
    assert_type(found, ProjectedChats)
    assert_type(found.plot(), Plot)
    away, cap = pmap.steer(-0.2), pmap.cap(percentile=75, layers=(12, 20))
    assert_type(away + cap, ps.Plan)
    assert_type(model.side_by_side("Who are you?", [None, away, cap]), SideBySide)
    assert_type(model.chat("Hi"), Reply)
    assert_type(model.generate("Hi"), Reply)
    assert_type(ps.calibrate(model, pmap), Sweep)
    assert_type(ps.calibrate(model, "runs/demo").plan, ps.Plan | None)
    assert_type(ps.evaluate(model, pmap, "susceptibility", plans=[cap]), Evaluation)
    assert_type(ps.evaluate(model, pmap, "harm", plans=cap), HarmEvaluation)
    ps.evaluate(model, pmap, "susceptability")  # pyright: ignore[reportCallIssue, reportArgumentType]
"""


def test_the_names_are_verbs_and_nouns_of_the_field() -> None:
    assert dir(ps) == NAMES == list(ps.__all__) and len(NAMES) <= 15
    assert all(getattr(ps, name) is not None for name in NAMES)
    assert all((getattr(ps, name).__doc__ or "").strip() for name in NAMES)


def test_names_are_found_whatever_was_imported_before() -> None:
    code = (
        "import personascope.mapping, personascope.calibration, personascope.api.notebook\n"
        "import personascope as ps\n"
        f"for name in {NAMES!r}:\n"
        "    assert type(getattr(ps, name)).__name__ != 'module', name\n"
        "from personascope import load, open, Plan\n"
        "assert open.__module__.startswith('personascope') and Plan is ps.Plan\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_import_is_light() -> None:
    code = (
        "import time\nstart = time.process_time()\nimport personascope\ntook = time.process_time() - start\n"
        "import sys\n"
        "assert not {'numpy', 'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "dir(personascope)\nprint(took)\n"
    )
    took = [
        float(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300).stdout
        )
        for _ in range(3)
    ]
    assert min(took) < 0.1, took


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mpa", "did you mean map or compare?"),
        ("Stear", "did you mean Steer?"),
        ("run_map", "it is in personascope.mapping (from personascope.mapping import run_map)"),
        ("MappedModel", "it is in personascope.api (from personascope.api import MappedModel)"),
        ("zebra", "has no attribute 'zebra'"),
    ],
)
def test_a_wrong_name_is_told_the_right_one(name: str, said: str) -> None:
    with pytest.raises(AttributeError) as raised:
        getattr(ps, name)
    assert str(raised.value).endswith(said) and raised.value.name == name
    with pytest.raises(ImportError):
        exec(f"from personascope import {name}")


def test_an_editor_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    source = Path(ps.__file__).parents[1]
    settings = {"include": ["typed.py"], "typeCheckingMode": "strict", "extraPaths": [str(source)]}
    # What packages without types leave unknown is not ours.
    settings |= {"reportUnknownMemberType": False, "reportMissingTypeStubs": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--project", str(tmp_path), "--pythonpath", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
