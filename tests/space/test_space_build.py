import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_sums import PlantedSums

from personascope.errors import SpaceError
from personascope.space import build_space

QUICK = {"min_fully": 4, "min_somewhat": 4, "n_boot": 60, "n_splits": 20}


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_recovers_planted_axis_components_and_default():
    sums = PlantedSums(n_roles=60, noise=0.5)
    space = build_space(sums, **QUICK)
    for layer in range(2):
        truth = sums.default_mean - (sums.common + sums.places.mean(axis=0) @ sums.basis)
        assert cosine(space.axis[layer], truth) > 0.995
        for k in range(3):
            assert abs(cosine(space.components[layer, k], sums.basis[k])) > 0.9
        assert space.stats.cos_axis_pc1[layer] > 0.95
        assert cosine(space.components[layer, 0], space.axis[layer]) > 0
    # The default was planted at 2.5 standard deviations of the first component.
    assert space.stats.default_position[1, 0] > 0.9
    assert space.stats.default_percentile[1, 0] > 0.95
    assert np.all(np.abs(space.stats.default_position[1, 1:3] - 0.5) < 0.3)
    assert np.corrcoef(space.stats.projections[1], sums.places[:, 0])[0, 1] > 0.98
    assert (space.stats.default_projection > space.stats.mean_projection).all()
    assert space.middle_layer == 1


@pytest.mark.parametrize("d", [24, 600])
def test_equals_a_direct_decomposition(d):
    sums = PlantedSums(n_roles=20, d=d, somewhat=2, n_layers=1)
    space = build_space(sums, **QUICK)
    fully, somewhat = sums.role_mean("fully", 0), sums.role_mean("somewhat", 0)
    axis = sums.default(0) - fully.mean(axis=0)
    both = np.concatenate([fully, somewhat])
    centred = both - both.mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    unit = axis / np.linalg.norm(axis)
    stats = space.stats
    assert stats.cos_axis_pc1[0] == pytest.approx(abs(vt[0] @ unit), abs=1e-6)
    ratio = s**2 / (s**2).sum()
    np.testing.assert_allclose(stats.variance_ratio[0], ratio[: stats.variance_ratio.shape[1]], atol=1e-6)
    assert stats.components_for_70[0] == np.flatnonzero(np.cumsum(ratio) >= 0.7)[0] + 1
    np.testing.assert_allclose(stats.projections[0], fully @ unit, atol=1e-6)
    np.testing.assert_allclose(stats.somewhat_projections[0], somewhat @ unit, atol=1e-6)
    np.testing.assert_allclose(
        np.abs(stats.loadings), np.abs((fully - both.mean(axis=0)) @ vt[:10].T), atol=1e-6
    )
    everyone = centred @ space.components[0].T.astype(np.float64)
    peaks = everyone[np.abs(everyone).argmax(axis=0), np.arange(10)]
    assert (peaks[1:] > 0).all()
    about = fully - fully.mean(axis=0)
    np.testing.assert_allclose(stats.role_cosines[0], about @ unit / np.linalg.norm(about, axis=1), atol=1e-6)
    np.testing.assert_allclose(space.role_vectors[0], fully, rtol=1e-5)


def test_null_is_low_for_a_planted_effect_and_covers_a_missing_one():
    planted = build_space(PlantedSums(n_roles=60), **QUICK).stats
    assert (planted.null_q95 < planted.cos_axis_pc1_interval[:, 0]).all()
    # Without any signal an axis is a random direction among those the vectors span.
    empty = [
        build_space(PlantedSums(signal=0.0, d=200, n_layers=1, seed=s), **QUICK).stats for s in range(12)
    ]
    above = sum(bool(e.cos_axis_pc1[0] > e.null_q95[0]) for e in empty)
    assert above <= 4
    assert np.mean([e.null_q95[0] for e in empty]) < 0.5


def test_cosine_interval_covers_the_truth():
    hits = 0
    for seed in range(12):
        sums = PlantedSums(n_roles=50, noise=1.5, n_folds=8, per_fold=2, n_layers=1, seed=seed)
        stats = build_space(sums, **QUICK).stats
        truth = sums.default_mean - (sums.common + sums.places.mean(axis=0) @ sums.basis)
        centred = sums.places - sums.places.mean(axis=0)
        first = np.linalg.svd(centred, full_matrices=False)[2][0] @ sums.basis
        low, high = stats.cos_axis_pc1_interval[0]
        assert low <= stats.cos_axis_pc1_corrected[0] <= high
        hits += low <= abs(cosine(truth, first)) <= high
    assert hits >= 9


def test_bootstrap_agrees_with_refitting_each_draw_directly():
    from personascope.space._build import _point, read_units, unit_layout
    from personascope.space._draws import bootstrap
    from personascope.space._layer import make_layer, resample

    for d in (24, 600):
        sums = PlantedSums(n_roles=20, d=d, somewhat=2, n_layers=1)
        layout, keep = unit_layout(sums, 4, 4)
        layer = make_layer(layout, read_units(sums, 0, layout, keep))
        draws = bootstrap(layout, 8, np.random.default_rng(0))
        got = resample(layer, draws, _point(layer, 0)["components"], n_vectors=2)
        rows = layer.rows.reshape(*layout.counts.shape, -1)
        for b in range(8):
            v = np.einsum("uf,ufd->ud", draws.coefficients[:, :, b], rows)
            times = draws.weights[:, b].astype(int)
            vectors = np.repeat(v[:-1], times, axis=0)
            fully = np.repeat(v[:20], times[:20], axis=0)
            np.testing.assert_array_equal(times[:20], times[20:])
            pcs = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2]
            axis = v[-1] - fully.mean(axis=0)
            assert got.cosine[b] == pytest.approx(abs(cosine(axis, pcs[0])), abs=2e-3)
            pc = pcs[0] * np.sign(pcs[0] @ axis)
            loads = fully @ pc
            place = (v[-1] @ pc - loads.min()) / (loads.max() - loads.min())
            assert got.default_position[0, b] == pytest.approx(place, abs=1e-2)


def test_split_half_rises_with_data_and_reflects_noise():
    little = build_space(PlantedSums(per_fold=1, default_per_fold=2, noise=3.0), **QUICK).stats
    much = build_space(PlantedSums(per_fold=20, default_per_fold=60, noise=3.0), **QUICK).stats
    assert (much.split_half > little.split_half + 0.05).all()
    assert (much.split_half_range[:, 0] <= much.split_half).all()
    assert much.split_roles == 40


def test_projection_intervals_hold_the_projection_and_shrink():
    few = build_space(PlantedSums(per_fold=1, noise=2.0), **QUICK).stats
    many = build_space(PlantedSums(per_fold=25, noise=2.0), **QUICK).stats
    width = [np.diff(s.projection_interval, axis=1).mean() for s in (few, many)]
    assert width[1] < 0.4 * width[0]
    inside = (few.projection_interval[:, 0] <= few.projections[1]) & (
        few.projections[1] <= few.projection_interval[:, 1]
    )
    assert inside.mean() > 0.8


def test_roles_under_the_minimum_are_listed_and_empty_folds_ignored():
    sums = PlantedSums(somewhat=2)
    sums._counts["fully"][0] = 0
    sums._counts["fully"][1, 1:] = 0
    sums._counts["somewhat"][2] = 0
    sums._sums["fully", 0][1, 1:] = 1e6
    space = build_space(sums, min_fully=3, min_somewhat=4, n_boot=30, n_splits=10)
    assert space.excluded == {"role000": 0}
    assert "role000" not in space.roles
    assert "role000" in space.somewhat
    assert "role002" not in space.somewhat
    np.testing.assert_allclose(space.role_vectors[0, 0], sums._sums["fully", 0][1, 0] / 3, rtol=1e-5)
    assert space.stats.split_roles == 38
    assert space.counts["role001"] == {"fully": 3, "plain": 0, "somewhat": 8, "other": 4}


def test_same_seed_same_numbers_and_the_seed_matters():
    sums = PlantedSums(n_layers=1)
    a, b, c = (build_space(sums, **QUICK, seed=s).stats for s in (1, 1, 2))
    np.testing.assert_array_equal(a.null_q95, b.null_q95)
    assert a.split_half != c.split_half


def test_progress_and_middle_layer():
    seen = []
    space = build_space(
        PlantedSums(n_layers=3), **QUICK, middle_layer=2, progress=lambda done, n: seen.append((done, n))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert space.middle_layer == 2


def break_nan(sums):
    sums._sums["fully", 1][3, 0, 0] = np.nan


def break_default(sums):
    sums._default_counts[:] = 0


def break_folds(sums):
    sums._default_counts[1:] = 0


def break_equal(sums):
    sums._sums["fully", 0][:] = sums._sums["fully", 0][0]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (break_nan, "role003 at layer 1 are not finite"),
        (break_default, "default has no responses"),
        (break_folds, "two folds"),
        (break_equal, "all equal at layer 0"),
    ],
)
def test_refuses_unusable_data(broken, words):
    sums = PlantedSums(noise=0.0 if broken is break_equal else 1.0)
    broken(sums)
    with pytest.raises(SpaceError, match=words):
        build_space(sums, **QUICK)


def test_refuses_too_few_roles_and_bad_arguments():
    with pytest.raises(SpaceError, match="0 of 40 roles"):
        build_space(PlantedSums(), min_fully=100)
    with pytest.raises(SpaceError, match="middle layer 9"):
        build_space(PlantedSums(), **QUICK, middle_layer=9)
    with pytest.raises(SpaceError, match="n_boot=0"):
        build_space(PlantedSums(), **(QUICK | {"n_boot": 0}))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_roles=st.integers(3, 12),
    d=st.integers(5, 40),
    n_folds=st.integers(2, 5),
    somewhat=st.integers(0, 2),
)
def test_bounds_hold_for_any_small_space(seed, n_roles, d, n_folds, somewhat):
    sums = PlantedSums(
        n_roles=n_roles, d=d, n_folds=n_folds, somewhat=somewhat, n_layers=1, seed=seed, default_per_fold=5
    )
    space = build_space(sums, min_fully=1, min_somewhat=1, n_boot=10, n_splits=5)
    stats = space.stats
    assert 0 <= stats.cos_axis_pc1[0] <= 1 + 1e-9
    assert (np.abs(stats.role_cosines) <= 1 + 1e-9).all()
    assert stats.projections[0].mean() == pytest.approx(stats.mean_projection[0])
    assert stats.default_projection[0] - stats.mean_projection[0] == pytest.approx(
        np.linalg.norm(space.axis[0]), rel=1e-4
    )
    for name in stats.__dataclass_fields__:
        if name.startswith("prompt_"):
            # Folds that are random say nothing of prompts.
            assert np.isnan(getattr(stats, name)).all()
            continue
        assert np.isfinite(getattr(stats, name)).all(), name
