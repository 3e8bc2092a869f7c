"""An imported release in the place of a map: what works along its axis, and what is said to be missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_case import save_model

from helpers.cli import personascope
from personascope.errors import UsageError
from personascope.interop import ReleasedMap, open_map
from personascope.interventions import Plan, Steer
from personascope.models import load


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a release of vectors for it, imported whole and as its axis alone, and a chat."""
    at = tmp_path_factory.mktemp("release")
    model = load(str(save_model(at / "model")))
    shape = (model.n_layers, model.d_model)
    rng = np.random.default_rng(0)
    roles = {
        name: torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for name in ("ant", "bee", "cat")
    }
    default = torch.from_numpy(rng.normal(size=shape).astype(np.float32)) + 3
    (at / "files/role_vectors").mkdir(parents=True)
    for name, vector in roles.items():
        torch.save(vector, at / f"files/role_vectors/{name}.pt")
    torch.save(default, at / "files/default_vector.pt")
    axis = default - torch.stack(list(roles.values())).mean(0)
    torch.save(axis, at / "files/assistant_axis.pt")
    for source, out in (("files", "whole"), ("files/assistant_axis.pt", "alone")):
        done = personascope("import", at / source, "--out", at / out)
        assert done.code == 0, done.err
    (at / "chat.json").write_text(
        json.dumps(
            [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."}]
        )
    )
    return at


def model(place: Path) -> list[object]:
    return ["--model", place / "model"]


def test_positions_where_the_release_has_both_ends(place: Path) -> None:
    found = open_map(place / "whole")
    assert isinstance(found, ReleasedMap)
    at = found.middle_layer
    assert found.to_units(found.stats.default_projection[at], at) == pytest.approx(1)
    assert found.to_units(found.stats.projections[at].mean(), at) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(
        found.stats.projections[at], found.role_vectors(at) @ found.unit_axis(at), rtol=1e-5
    )
    assert np.isnan(found.percentile(0.0, at))
    with pytest.raises(UsageError, match="no principal components"):
        found.components(at)
    done = personascope("project", place / "whole", place / "chat.json", "--format", "json", *model(place))
    assert done.code == 0, done.err
    assert "is an imported release: no components, percentiles" in " ".join(done.err.split())
    turn = json.loads(done.out)["turns"][1]
    assert turn["percentile"] is None and turn["projection"] is not None
    assert turn["position"] == pytest.approx(float(found.to_units(turn["projection"], at)), abs=1e-4)


def test_raw_projections_where_it_has_not(place: Path) -> None:
    done = personascope("project", place / "alone", place / "chat.json", "--format", "json", *model(place))
    assert done.code == 0, done.err
    assert "no default vector, so projections are raw" in " ".join(done.err.split())
    turn = json.loads(done.out)["turns"][1]
    assert turn["position"] is None and isinstance(turn["projection"], float)
    done = personascope("project", place / "alone", place / "chat.json", *model(place))
    assert done.code == 0, done.err


def test_show(place: Path) -> None:
    done = personascope("show", place / "whole")
    assert done.code == 0, done.err
    for word in ("ant", "bee", "cat", "UNKNOWN", "0: mean role, 1: default"):
        assert word in " ".join(done.out.split())
    done = personascope("show", place / "alone")
    assert done.code == 0 and "UNKNOWN" in done.out


def test_steer_and_plan(place: Path, tmp_path: Path) -> None:
    done = personascope(
        "steer", place / "whole", "--strengths", "0.1", "--max-new-tokens", "2", *model(place)
    )
    assert done.code == 0, done.err
    done = personascope("plan", "steer", place / "alone", "0.1", "--out", tmp_path / "plan", *model(place))
    assert done.code == 0, done.err
    plan = Plan.load(tmp_path / "plan")
    (op,) = plan.ops
    assert isinstance(op, Steer) and op.layer == open_map(place / "alone").middle_layer
    np.testing.assert_allclose(op.direction, open_map(place / "alone").unit_axis(op.layer), atol=1e-6)
    assert plan.model is not None and plan.model.revision
    done = personascope(
        "steer", place / "alone", "--plan", tmp_path / "plan", "--max-new-tokens", "2", *model(place)
    )
    assert done.code == 0, done.err
    # The norms lie beside the release, and a later import replaces both.
    assert (place / "alone/norms.json").exists()
    assert personascope("import", place / "files/assistant_axis.pt", "--out", place / "alone").code == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["project", "whole", "chat.json"], 2, ["does not say of which model", "--model"]),
        (["plan", "cap", "whole", "--out", "caps", "--axis-percentile", "25"], 1, ["keeps no responses"]),
        (["report", "whole", "--out", "report.html"], 2, ["components and intervals, which it has not"]),
        (
            ["project", "whole", "chat.json", "--probe", "pc1", "--model", "model"],
            2,
            ["no principal components"],
        ),
        (["project", "alone", "chat.json", "--probe", "role:ant", "--model", "model"], 2, ["role 'ant'"]),
        (["steer", "whole", "--layer", "99", "--model", "model"], 2, ["layer 99"]),
    ],
)
def test_what_it_lacks_is_said(place: Path, args: list[str], code: int, words: list[str]) -> None:
    names = {"whole", "alone", "chat.json", "model", "caps", "report.html"}
    done = personascope(*(place / arg if arg in names else arg for arg in args))
    assert done.code == code and "Traceback" not in done.err, (done.out, done.err)
    for word in words:
        assert word in " ".join(done.err.split()), done.err
    assert not (place / "caps").exists() and not (place / "report.html").exists()


def test_another_models_shape_is_refused(place: Path, tmp_path: Path) -> None:
    torch.save(torch.ones(3, 5), tmp_path / "axis.pt")
    assert personascope("import", tmp_path / "axis.pt", "--out", tmp_path / "other").code == 0
    done = personascope("project", tmp_path / "other", place / "chat.json", *model(place))
    assert done.code == 1 and "3 layers of 5" in " ".join(done.err.split())


def test_show_ranks_the_traits_of_a_release(place: Path, tmp_path: Path) -> None:
    axis = torch.load(place / "files/assistant_axis.pt")
    (tmp_path / "files/trait_vectors").mkdir(parents=True)
    torch.save(axis, tmp_path / "files/assistant_axis.pt")
    for name, vector in (("grounded", axis * 2), ("dramatic", -axis), ("still", torch.zeros_like(axis))):
        torch.save(vector, tmp_path / f"files/trait_vectors/{name}.pt")
    done = personascope("import", tmp_path / "files", "--out", tmp_path / "release")
    assert done.code == 0, done.err
    shown = personascope("show", tmp_path / "release")
    assert shown.code == 0, shown.err
    rows = [line.split() for line in shown.out.splitlines()]
    assert ["1", "grounded", "+1.00"] in rows and ["2", "still", "+0.00"] in rows
    assert ["3", "dramatic", "-1.00"] in rows
    assert "Traits of the release" not in personascope("show", place / "whole").out
