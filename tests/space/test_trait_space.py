"""Cosines of trait vectors with the axis: planted ones are found, and the nulls hold at chance."""

from __future__ import annotations

import numpy as np
import pytest

from personascope.errors import SpaceError
from personascope.space import FoldDesign, build_trait_space
from personascope.stats import weighted_percentiles

D = 64


class PlantedPairs:
    """Pair differences of traits along given directions, with noise of prompts and of single pairs."""

    def __init__(
        self,
        directions: np.ndarray,
        *,
        slots: int = 4,
        blocks: int = 3,
        per_fold: int = 4,
        prompt_noise: float = 0.0,
        noise: float = 1.0,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        n = len(directions)
        self.traits = tuple(f"trait{i:02}" for i in range(n))
        self.n_layers = 1
        folds = range(slots * blocks)
        self.fold_design = FoldDesign(tuple(f // slots for f in folds), tuple(f % slots for f in folds))
        prompts = prompt_noise * rng.normal(size=(n, slots, D))
        mean = directions[:, None] + prompts[:, np.array(self.fold_design.prompts)]
        wobble = noise * np.sqrt(per_fold) * rng.normal(size=(n, slots * blocks, D))
        self._counts = np.full((n, slots * blocks), per_fold)
        self._sums = (per_fold * mean + wobble).astype(np.float32)

    def counts(self) -> np.ndarray:
        return self._counts

    def sums(self, layer: int) -> np.ndarray:
        assert layer == 0
        return self._sums


def directions(cosines: list[float], length: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors with given cosines to an axis, and the axis [1, D]."""
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=D)
    unit = axis / np.linalg.norm(axis)
    found = []
    for cosine in cosines:
        other = rng.normal(size=D)
        other -= (other @ unit) * unit
        other /= np.linalg.norm(other)
        found.append(length * (cosine * unit + np.sqrt(1 - cosine**2) * other))
    return np.stack(found), axis[None]


def test_planted_traits_are_found_and_lie_above_both_nulls() -> None:
    cosines = [0.9, -0.8, *[0.0] * 10]
    means, axis = directions(cosines, 6.0)
    space = build_trait_space(PlantedPairs(means), axis, min_pairs=10)
    found = space.cosines[0]
    # Noise of 48 pairs turns a vector of length 6 by about 0.02 of its cosine.
    np.testing.assert_allclose(found, cosines, atol=0.08)
    for index in (0, 1):
        assert abs(found[index]) > space.mixed_q95[0] and abs(found[index]) > space.null_q95[0, index]
        low, high = space.cosine_interval[0, index]
        assert low < found[index] < high and high - low < 0.15
    assert (space.reliability > 0.95).all()
    np.testing.assert_allclose(space.vectors[0], PlantedPairs(means)._sums.sum(axis=1) / 48, atol=1e-5)


def test_the_null_of_permuted_poles_holds_at_chance() -> None:
    """Traits whose poles differ, but not along the axis, exceed their null in about 5% of the cases."""
    above = []
    for seed in range(40):
        means, axis = directions([0.0] * 20, 3.0, seed)
        space = build_trait_space(
            PlantedPairs(means, prompt_noise=0.0, seed=seed), axis, min_pairs=1, seed=seed
        )
        above.append(np.abs(space.cosines[0]) > space.null_q95[0])
    # Twelve signs: a conservative test by a hair. 800 traits: a standard error of 0.8%.
    assert 0.02 < np.mean(above) < 0.09


def test_the_null_of_mixed_traits_holds_at_chance() -> None:
    """Where prompts have no trait in common, a trait exceeds the null as often as 5%."""
    above = []
    for seed in range(40):
        _, axis = directions([0.0], 1.0, seed)
        pairs = PlantedPairs(np.zeros((20, D)), prompt_noise=2.0, seed=seed)
        space = build_trait_space(pairs, axis, min_pairs=1, seed=seed)
        above.append(np.abs(space.cosines[0]) > space.mixed_q95[0])
    assert 0.02 < np.mean(above) < 0.09


@pytest.mark.parametrize("prompt_noise", [0.0, 0.5])
def test_intervals_cover_what_a_replication_shows_on_average(prompt_noise: float) -> None:
    cosines = [0.6, 0.3, -0.5, *[0.0] * 9]
    means, axis = directions(cosines, 4.0)
    runs = [
        build_trait_space(
            PlantedPairs(means, prompt_noise=prompt_noise, seed=seed), axis, min_pairs=1, n_draws=20
        )
        for seed in range(60)
    ]
    expected = np.mean([run.cosines[0] for run in runs], axis=0)
    covered = np.mean(
        [
            (run.cosine_interval[0, :, 0] <= expected) & (expected <= run.cosine_interval[0, :, 1])
            for run in runs
        ]
    )
    assert 0.90 < covered < 0.99


def test_noise_alone_is_not_reliable() -> None:
    _, axis = directions([0.0], 1.0)
    space = build_trait_space(PlantedPairs(np.zeros((30, D)), prompt_noise=0.7), axis, min_pairs=1)
    assert np.median(space.reliability) < 0.3


def test_trait_space_has_its_components() -> None:
    means, axis = directions([0.95, -0.95, 0.9, -0.9, 0.0, 0.0], 6.0)
    space = build_trait_space(PlantedPairs(means), axis, min_pairs=1)
    assert space.cos_axis_pc1[0] > 0.9 and space.components.shape == (1, 5, D)
    vectors = space.vectors[0].astype(np.float64)
    spread = np.linalg.svd(vectors - vectors.mean(axis=0))[1] ** 2
    np.testing.assert_allclose(space.variance_ratio[0], (spread / spread.sum())[:5], atol=1e-6)


def test_few_traits_have_no_mixed_null_and_no_components() -> None:
    means, axis = directions([0.5], 6.0)
    space = build_trait_space(PlantedPairs(means), axis, min_pairs=1)
    assert np.isnan(space.mixed_q95[0]) and np.isnan(space.cos_axis_pc1[0]) and space.components.shape[1] == 0
    assert space.cosines[0, 0] == pytest.approx(0.5, abs=0.08) and not np.isnan(space.cosine_interval).any()


def test_one_fold_has_no_interval() -> None:
    means, axis = directions([0.5, 0.1], 6.0)
    pairs = PlantedPairs(means, slots=1, blocks=1)
    assert np.isnan(build_trait_space(pairs, axis, min_pairs=1).cosine_interval).all()


def test_too_few_pairs_are_an_error() -> None:
    means, axis = directions([0.5], 6.0)
    with pytest.raises(SpaceError, match="no trait has 49 kept pairs"):
        build_trait_space(PlantedPairs(means), axis, min_pairs=49)


def test_weighted_percentiles() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 2))
    equal = weighted_percentiles(values, np.ones(2000), (5, 50, 95))
    np.testing.assert_allclose(equal, np.percentile(values, (5, 50, 95), axis=0).T, atol=0.01)
    # A weight of three is three copies.
    few = values[:50]
    weights = np.where(np.arange(50) < 20, 3.0, 1.0)
    copies = np.concatenate([few[:20], few[:20], few])
    wanted = weighted_percentiles(copies, np.ones(90), (25, 50, 75))
    np.testing.assert_allclose(weighted_percentiles(few, weights, (25, 50, 75)), wanted, atol=0.15)
    np.testing.assert_allclose(
        weighted_percentiles(np.array([[0.0], [1.0]]), np.array([3.0, 1.0]), (37.5, 87.5)), [[0.0, 1.0]]
    )
