"""An imported release beside a map: its components come from its role vectors."""

from __future__ import annotations

import numpy as np
import pytest
from compare_case import save, scores, vectors

from personascope.comparison import compare
from personascope.errors import UsageError
from personascope.interop import export_released, import_source, open_map


def test_a_release_of_a_map_has_the_maps_figures(tmp_path):
    persona_map = save(tmp_path / "map", vectors(scores()))
    export_released(persona_map, tmp_path / "files")
    import_source(tmp_path / "files").save(tmp_path / "release")
    release = open_map(tmp_path / "release")
    found = compare([(persona_map, 1), (release, 1)], draws=200)
    (pair,) = found.pairs
    assert min(one.value for one in pair.components.order) > 0.999
    np.testing.assert_allclose(pair.geometry.angles, 0, atol=2)
    assert "B (release, layer 1) is an imported release" in found.notes[0]
    assert found.maps[1].axis == "unknown"


def test_an_axis_alone_has_no_roles_to_compare(tmp_path):
    persona_map = save(tmp_path / "map", vectors(scores()))
    export_released(persona_map, tmp_path / "files")
    import_source(tmp_path / "files/assistant_axis.pt").save(tmp_path / "alone")
    with pytest.raises(UsageError, match=r"share 0 roles \(of 40 and 0\)"):
        compare([persona_map, open_map(tmp_path / "alone")])
