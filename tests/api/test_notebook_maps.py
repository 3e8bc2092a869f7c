"""Maps compared and traits ranked from a notebook, and directions named after traits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import personascope as ps
from helpers.trait_files import write_ours
from personascope.api.notebook import Model
from personascope.errors import UsageError

sys.path.insert(0, str(Path(__file__).parents[1] / "comparison"))

from compare_case import save, scores, vectors


def test_two_layers_of_a_map_are_compared(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    save(folder / "map", vectors(scores()))
    found = ps.compare((folder, 0), f"{folder}:1", draws=100, out=tmp_path / "page.html")
    rows = found.to_pandas()
    assert {"group", "name", "value", "low", "high", "null_q95", "p", "roles"} <= set(rows.columns)
    assert rows.value.between(-1, 1).all() and (rows.low <= rows.high).all()
    assert any("two layers of one map" in note for note in found.notes())
    assert "whole (layer" in repr(found)
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert found.plot().save(tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    # Saved as a page, the figure is the whole comparison.
    assert "whole" in found.plot().save(tmp_path / "figure.html").read_text()
    with pytest.raises(UsageError, match="1 map cannot be compared"):
        ps.compare(folder)


def test_traits_are_ranked_and_name_directions(place: Path, model: Model, pmap: ps.PersonaMap) -> None:
    write_ours(place / "texts")
    found = ps.traits(
        model, pmap, corpus=place / "texts", bank=place / "corpus", profile="quick", questions=6,
        max_new_tokens=6,
    )  # fmt: skip
    rows = found.to_pandas()
    assert list(rows.cosine) == sorted(rows.cosine, reverse=True)
    assert any("no judge gave a score" in note for note in found.notes())
    assert found.plot().save(place / "traits.png").read_bytes().startswith(b"\x89PNG")

    name = rows.trait[0]
    again = ps.open(place / "run", model=model, anyway=True)
    direction, at = again.trait(name), again.middle_layer
    vector = found.found.vector(name)[at].astype(np.float64)
    plan = again.steer(0.1, direction=direction)
    assert plan.ops[0].direction @ vector == pytest.approx(np.linalg.norm(vector), rel=1e-5)
    unit = again.arrays.unit_axis(at).astype(np.float64)
    assert unit @ vector / np.linalg.norm(vector) == pytest.approx(rows.cosine[0], abs=1e-5)
    with pytest.raises(UsageError, match="no vector of a trait 'dramatik'"):
        again.trait("dramatik")
