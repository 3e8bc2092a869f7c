"""Pairs of maps whose relation is known: what recovers it, what does not, and what is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from compare_case import SPREADS, D, names, save, scores, vectors
from safetensors.numpy import load_file, save_file
from scipy.stats import ortho_group, pearsonr, spearmanr

from personascope.comparison import MapComparison, PairComparison, Statistic, compare
from personascope.comparison._loadings import match_components
from personascope.comparison._resample import Draws
from personascope.errors import SpaceError, UsageError
from personascope.space import PersonaMap

DRAWS = 100


def pair_of(*maps, **options) -> PairComparison:
    (found,) = compare(maps, draws=DRAWS, **options).pairs
    return found


def values(statistics: tuple[Statistic, ...]) -> np.ndarray:
    return np.array([one.value for one in statistics])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PersonaMap:
    return save(tmp_path_factory.mktemp("whole") / "whole/map", vectors(scores()))


def test_a_map_with_itself_is_one_everywhere_and_said_to_be_the_same(whole):
    found = pair_of(whole, whole)
    by = found.components
    everything = (
        *by.order, *(one.correlation for one in by.assignment), by.assignment_mean, by.procrustes,
        *by.rotated, *by.canonical, found.cosines.pearson, found.cosines.spearman, found.positions.pearson,
        found.positions.spearman,
    )  # fmt: skip
    np.testing.assert_allclose(values(everything), 1, atol=1e-9)
    assert all(one.low > 0.999 and one.high <= 1 for one in everything)
    assert all(one.p_value == 1 / (DRAWS + 1) and one.null_q95 < 0.75 for one in everything)
    assert found.geometry.axis_cosine.value == pytest.approx(1)
    assert found.geometry.overlap.value == pytest.approx(1)
    np.testing.assert_allclose(found.geometry.angles, 0, atol=0.1)
    assert "the same map at the same layer" in found.notes[0]
    for row in found.apart:
        assert row.figure.first == row.figure.second
        assert row.figure.contrast.value == (0 if row.contrast == "difference" else 1)


def test_other_coordinates_and_another_sign_change_nothing_but_the_geometry(whole, tmp_path):
    """The same loadings along other directions of another width: a mirrored space has the same roles."""
    wide = save(tmp_path / "wide", vectors(-scores(), d=40, seed=7))
    found = pair_of(whole, wide)
    assert values(found.components.order).min() > 0.99
    assert found.components.procrustes.value > 0.99
    assert found.geometry is None
    assert found.not_comparable == "widths 24 and 40"
    assert not [row for row in found.between if row.group == "same coordinates"]
    # The axis changes its sides with the roles, so the roles keep their places on it.
    assert found.cosines.pearson.value > 0.99


def test_a_rotated_copy_is_recovered_by_rotation_and_not_by_order():
    loads = scores() / SPREADS
    turned = loads @ ortho_group.rvs(5, random_state=3)
    found = match_components(loads, turned, Draws.make(len(loads), DRAWS, 0))
    assert found.procrustes.value == pytest.approx(1)
    np.testing.assert_allclose(values(found.rotated), 1)
    np.testing.assert_allclose(values(found.canonical), 1)
    assert found.procrustes.low > 0.99
    assert values(found.order).max() < 0.85
    assert found.assignment_mean.value < 0.9
    # A stretched one by the canonical correlations alone.
    stretched = match_components(loads, turned * SPREADS, Draws.make(len(loads), DRAWS, 0))
    np.testing.assert_allclose(values(stretched.canonical), 1)
    assert stretched.procrustes.value < 0.97


def test_swapped_components_are_recovered_by_the_assignment():
    loads = scores()
    order = [1, 0, 2, 4, 3]
    found = match_components(loads, -loads[:, order], Draws.make(len(loads), DRAWS, 0))
    assert [(one.first, one.second) for one in found.assignment] == [(1, 2), (2, 1), (3, 3), (4, 5), (5, 4)]
    np.testing.assert_allclose([one.correlation.value for one in found.assignment], 1)
    np.testing.assert_allclose(values(found.order)[[0, 1, 3, 4]], 0, atol=1e-9)
    assert found.order[0].p_value == pytest.approx(1) and found.assignment[0].correlation.p_value < 0.01


def test_swapped_spreads_of_maps_swap_their_components(whole, tmp_path):
    swapped = scores() / SPREADS * SPREADS[[1, 0, 2, 3, 4]]
    found = pair_of(whole, save(tmp_path / "swapped", vectors(swapped)))
    assert [(one.first, one.second) for one in found.components.assignment[:2]] == [(1, 2), (2, 1)]
    assert found.components.order[0].value < 0.1 < 0.99 < found.components.assignment[0].correlation.value


def test_permuted_names_are_at_chance(whole, tmp_path):
    rows = vectors(scores())
    order = np.random.default_rng(5).permutation(len(rows))
    found = pair_of(whole, save(tmp_path / "permuted", rows[order]))
    by = found.components
    assert by.procrustes.p_value > 0.05 and by.procrustes.low == 0
    assert by.procrustes.value > 0.15
    assert by.assignment_mean.p_value > 0.05 and by.assignment_mean.low <= 0
    assert found.cosines.pearson.p_value > 0.05
    # The null of a rotation is far above that of a fixed pair of components' mean, which is 0.
    assert by.procrustes.null_q95 > by.procrustes.value
    # Directions do not depend on names.
    assert found.geometry.overlap.value == pytest.approx(1, abs=1e-6)


def test_correlations_are_those_of_scipy(whole, tmp_path):
    other = save(tmp_path / "other", vectors(scores(seed=1), seed=2))
    found = pair_of(whole, other)
    a, b = (one.stats for one in (whole, other))
    for agreement, x, y in (
        (found.cosines, a.role_cosines[1], b.role_cosines[1]),
        (found.positions, a.projections[1], b.projections[1]),
    ):
        assert agreement.pearson.value == pytest.approx(pearsonr(x, y)[0], abs=1e-5)
        assert agreement.spearman.value == pytest.approx(spearmanr(x, y)[0])
    for i, one in enumerate(found.components.order):
        assert one.value == pytest.approx(abs(pearsonr(a.loadings[:, i], b.loadings[:, i])[0]), abs=1e-5)
    np.testing.assert_allclose(found.pc1[0], a.loadings[:, 0], atol=1e-4)
    assert found.default.pc1.first.value == pytest.approx(a.default_percentile[1, 0])
    assert found.dimensions.components_for_70.first.value == a.components_for_70[1]
    assert found.dimensions.pc1_share.second.value == pytest.approx(b.variance_ratio[1, 0], rel=1e-4)
    spectrum = np.linalg.svd(whole.role_vectors(1) - whole.role_vectors(1).mean(0), compute_uv=False) ** 2
    ratio = spectrum.sum() ** 2 / np.square(spectrum).sum()
    assert found.dimensions.participation_ratio.first.value == pytest.approx(ratio, rel=1e-3)
    cosine = whole.unit_axis(1) @ other.unit_axis(1)
    assert found.geometry.axis_cosine.value == pytest.approx(cosine, abs=1e-6)
    overlap = np.square(whole.components(1)[:5] @ other.components(1)[:5].T).sum() / 5
    assert found.geometry.overlap.value == pytest.approx(overlap, abs=1e-6)
    # Random subspaces of 5 in 24 dimensions overlap by 5/24 on average.
    assert 5 / D < found.geometry.overlap.null_q95 < 2.2 * 5 / D


def test_the_null_of_a_rotation_has_the_same_fit():
    """Against a null that holds the rotation, unrelated loadings are nearly always above it."""
    rng = np.random.default_rng(0)
    above = above_held = 0
    for seed in range(40):
        a, b = rng.normal(size=(2, 30, 5))
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        draws = Draws.make(30, DRAWS, seed)
        found = match_components(a, b, draws).procrustes
        left, _, right = np.linalg.svd(a.T @ b)
        held = [np.trace(a.T @ b[order] @ right.T @ left.T) for order in draws.permuted]
        held_q95 = np.quantile(np.abs(held), 0.95) / (np.linalg.norm(a) * np.linalg.norm(b))
        above += found.p_value <= 0.05
        above_held += found.value > held_q95
    assert above <= 6
    assert above_held >= 38


def test_missing_roles_are_counted_and_named(whole, tmp_path):
    rows = vectors(scores())
    roles = (*names()[:35], "zebra", "yak")
    found = pair_of(whole, save(tmp_path / "part", rows[:37], roles=roles))
    assert found.roles == names()[:35]
    assert found.only_first == names()[35:]
    assert found.only_second == ("yak", "zebra")
    # Roles are matched by name, whatever their order.
    turned = save(tmp_path / "turned", rows[::-1], roles=names()[::-1])
    assert values(pair_of(whole, turned).components.order).min() > 0.99


def test_too_few_shared_roles_are_an_error(whole, tmp_path):
    roles = (*names()[:9], *(f"other{i}" for i in range(11)))
    few = save(tmp_path / "few", vectors(scores(20)), roles=roles)
    with pytest.raises(UsageError, match=r"share 9 roles \(of 40 and 20\).*needs 10") as caught:
        compare([whole, few])
    assert "same corpus" in caught.value.hint
    ten = save(tmp_path / "ten", vectors(scores(20)), roles=(*names()[:10], *roles[9:19]))
    found = pair_of(whole, ten)
    assert found.components.k == 3
    assert "3 components instead of 5" in found.notes[-1]


def test_layers(whole):
    found = compare([(whole, 0), whole], draws=DRAWS)
    assert [one.layer for one in found.maps] == [0, 1]
    assert "two layers of one map" in found.pairs[0].notes[0]
    assert [one.layer for one in compare([(whole, 1), whole], layer=0, draws=DRAWS).maps] == [1, 0]
    with pytest.raises(UsageError, match="layer 2 is not in the map"):
        compare([whole, whole], layer=2)
    with pytest.raises(UsageError, match="layer -1 is not in the map"):
        compare([whole, (whole, -1)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"components": 0}, "components is 0"),
        ({"components": 11}, "components is 11"),
        ({"draws": 99}, "draws is 99"),
        ({"draws": 20_001}, "draws is 20001"),
    ],
)
def test_numbers_out_of_range(whole, options, words):
    with pytest.raises(UsageError, match=words):
        compare([whole, whole], **options)


def test_one_map_is_no_comparison(whole):
    with pytest.raises(UsageError, match="1 map cannot be compared"):
        compare([whole])


def test_degenerate_maps_are_refused(whole, tmp_path):
    """The shared roles all lie in one place; what sets them apart is a role of this map alone."""
    rows = np.tile(vectors(scores())[:1], (40, 1))
    rows[30:] = vectors(scores())[30:]
    constant = save(
        tmp_path / "constant", rows, roles=(*names()[:30], *(f"x{i}" for i in range(10))), toward=35
    )
    with pytest.raises(SpaceError, match=r"the vectors of the 30 shared roles in B .* are all equal"):
        compare([whole, constant])


def test_flat_components_are_left_out(whole, tmp_path):
    flat = save(tmp_path / "flat", vectors(scores()[:, :2], noise=0.0))
    found = pair_of(whole, flat)
    assert found.components.k == 2
    assert "differ on 10 and 2" in " ".join(found.notes)


@pytest.mark.parametrize("what", ["role_vectors", "default_vector", "axis"])
def test_values_that_are_not_finite_are_refused(whole, tmp_path, monkeypatch, what):
    broken = save(tmp_path / "broken", vectors(scores()))
    if what == "role_vectors":
        monkeypatch.setattr(broken, "role_vectors", lambda _: np.full((40, D), np.nan, np.float32))
    else:
        read = broken._tensors.get
        monkeypatch.setattr(
            broken._tensors, "get", lambda name: np.full((2, D), np.nan) if name == what else read(name)
        )
    with pytest.raises(SpaceError, match=r"of B \(broken\) at layer 1 is not finite"):
        compare([whole, broken])


def test_the_same_seed_gives_the_same_figures_and_other_maps_change_none(whole, tmp_path):
    other = save(tmp_path / "other", vectors(scores(seed=1), seed=2))
    first = compare([whole, other], draws=DRAWS, seed=3)
    again = compare([whole, other, whole], draws=DRAWS, seed=3)
    assert first.pairs[0] == again.pairs[0] == again.pair("B", "A")
    assert [(one.first, one.second) for one in again.pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert first.pairs[0] != compare([whole, other], draws=DRAWS, seed=4).pairs[0]
    with pytest.raises(KeyError, match="A and D"):
        again.pair("A", "D")


def test_what_a_reader_must_know_is_said(whole, tmp_path):
    rows = vectors(scores())
    other = save(tmp_path / "other", rows, model="other/model", corpus="c1", tokens="thinking", garbled=1.0)
    found = compare([whole, other], draws=DRAWS)
    assert len(found.notes) == 1
    assert found.notes[0].startswith(
        "no axis was found in B (other, layer 1): 100% of the responses are garble"
    )
    assert found.maps[0].axis == "unknown" and found.maps[1].axis == "not found"
    said = " ".join(found.pairs[0].notes)
    assert "different corpora" in said
    assert "different tokens: answer and thinking" in said
    assert "different models of one width" in said
    assert not pair_of(
        other, save(tmp_path / "third", rows * 2, model="other/model", corpus="c1", tokens="thinking")
    ).notes


def test_a_map_of_the_first_design_is_compared(whole, tmp_path):
    """Written before there were checks, digests of tensors and reliabilities."""
    folder = tmp_path / "old"
    save(folder, vectors(scores(), seed=4))
    record, tensors = json.loads((folder / "map.json").read_text()), folder / "map.safetensors"
    kept = {name: value for name, value in load_file(tensors).items() if "reliability" not in name}
    save_file(kept, tensors, metadata={"pair": record["pair"]})
    for later in ("checks", "digests", "checksum"):
        del record[later]
    record |= {"tensors": sorted(kept), "sha256": hashlib.sha256(tensors.read_bytes()).hexdigest()}
    (folder / "map.json").write_text(json.dumps(record))
    found = compare([whole, PersonaMap.open(folder)], draws=DRAWS)
    assert found.maps[1].axis == "unknown"
    assert np.isnan(found.maps[1].role_reliability)
    assert values(found.pairs[0].components.order).min() > 0.99
    assert found.to_dict()["maps"][1]["role_reliability"] is None


def test_to_dict_is_json_with_every_figure(whole, tmp_path):
    other = save(tmp_path / "other", vectors(scores(seed=1), d=30, seed=2))
    found: MapComparison = compare([whole, other], draws=DRAWS)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    (pair,) = data["pairs"]
    assert pair["geometry"] is None and pair["not_comparable"] == "widths 24 and 30"
    assert len(pair["components"]["order"]) == 5
    assert set(pair["components"]["procrustes"]) == {"value", "low", "high", "null_q95", "p_value"}
    assert data["draws"] == DRAWS and len(data["methods"]) == 6


def test_named_by_their_folders(whole, tmp_path):
    save(tmp_path / "run/map", vectors(scores()))
    found = compare([whole, PersonaMap.open(tmp_path / "run")], draws=DRAWS)
    assert [one.name for one in found.maps] == ["whole", "run"]
    assert Path(whole.folder).name == "map"
