"""Variance components, reliability, and intervals of positions, against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from personascope.space import FoldDesign, build_space
from personascope.space._draws import Layout, cluster_bootstrap, halves
from personascope.space._layer import fold_centres
from personascope.space._positions import corrected_cosine, reliability, variance_components

PLACES = np.arange(8) % 2


def responses(rng, *, roles=2000, role=1.0, prompt=0.8, response=1.2, missing=0.0):
    """Sums and counts [R, 8] of one response a fold, four folds to a prompt."""
    values = (
        role * rng.normal(size=(roles, 1))
        + (prompt * rng.normal(size=(roles, 2)))[:, PLACES]
        + response * rng.normal(size=(roles, 8))
    )
    counts = (rng.random((roles, 8)) >= missing).astype(int)
    return values * counts, counts


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_components_are_found_again(missing):
    sums, counts = responses(np.random.default_rng(0), missing=missing)
    found = variance_components(sums, counts, PLACES)
    assert found.prompt == pytest.approx(0.64, rel=0.2)
    assert found.response == pytest.approx(1.44, rel=0.05)


def test_variances_of_means_are_those_that_repetition_shows():
    rng = np.random.default_rng(1)
    sums, counts = responses(rng, role=0.0, missing=0.4)
    found = variance_components(sums, counts, PLACES)
    there = counts.sum(axis=1) > 0
    means = sums.sum(axis=1)[there] / counts.sum(axis=1)[there]
    assert found.of_means(counts, PLACES)[there].mean() == pytest.approx(means.var(), rel=0.15)


def test_reliability_is_the_correlation_of_two_runs():
    """Of roles over new prompts and responses, of prompts over new responses."""
    rng = np.random.default_rng(2)
    role = rng.normal(size=(3000, 1))
    prompts = 0.8 * rng.normal(size=(2, 3000, 2))
    noise = 1.2 * rng.normal(size=(2, 3000, 8))
    runs = role + prompts[:, :, PLACES] + noise
    ones = np.ones((3000, 8), int)
    found = reliability(runs[0], ones, PLACES, 40, rng)
    assert found.roles[0] == pytest.approx(np.corrcoef(*runs.mean(axis=2))[0, 1], abs=0.03)
    again = role + prompts[0][:, PLACES] + noise[1]
    by_prompt = [
        np.stack([run[:, p == PLACES].mean(axis=1) for p in (0, 1)]).ravel() for run in (runs[0], again)
    ]
    assert found.prompts[0] == pytest.approx(np.corrcoef(*by_prompt)[0, 1], abs=0.03)
    assert found.roles[1] < found.roles[0] < found.roles[2]
    assert found.spread == pytest.approx(1.0, abs=0.05)


def test_what_a_place_does_to_all_prompts_is_no_prompt_s_own():
    rng = np.random.default_rng(3)
    sums, counts = responses(rng, role=0.0, prompt=0.0, roles=500)
    none = reliability(sums - sums.mean(axis=0), counts, PLACES, 0, rng)
    assert none.prompts[0] < 0.15
    moved = sums + np.where(PLACES == 1, 5.0, 0.0)
    centred = moved - moved.mean(axis=0)
    assert reliability(centred, counts, PLACES, 0, rng).prompts[0] == pytest.approx(none.prompts[0], abs=1e-6)


def test_folds_that_are_clusters_of_their_own_say_nothing_of_prompts():
    sums, counts = responses(np.random.default_rng(4), roles=50)
    found = reliability(sums, counts, np.arange(8), 5, np.random.default_rng(0))
    assert np.isnan(found.prompts).all() and np.isfinite(found.roles).all()


@pytest.mark.parametrize("clusters", [2, 3, 5])
def test_drawing_one_cluster_fewer_has_the_spread_of_the_mean(clusters):
    rng = np.random.default_rng(5)
    values = rng.normal(size=(4000, clusters))
    counts = np.full((4000, clusters), 3)
    draws = cluster_bootstrap(counts, np.arange(clusters), 60, rng)
    means = np.einsum("uf,ufb->ub", 3 * values, draws)
    assert means.var(axis=1).mean() == pytest.approx(1 / clusters, rel=0.05)


def test_fold_centres_are_least_squares_and_leave_a_full_design_alone():
    rng = np.random.default_rng(6)
    roles, folds, d = 12, 6, 3
    effects, places = rng.normal(size=(folds, d)), rng.normal(size=(roles, d))
    counts = (rng.random((roles, folds)) < 0.6).astype(int)
    counts[:, 0] = 1
    sums = counts[:, :, None] * (effects + places[:, None])
    layout = Layout(
        tuple(map(str, range(roles))),
        (),
        np.arange(roles),
        np.concatenate([counts, np.ones((1, folds), int)]),
        FoldDesign(tuple(range(folds)), (0,) * folds),
    )
    found = fold_centres(layout, np.concatenate([sums, effects[None]]))
    # An additive world without noise is solved exactly, whoever answered what.
    np.testing.assert_allclose(found, effects + places.mean(axis=0), atol=1e-9)


def test_halves_hold_the_same_questions_for_every_role_and_the_default():
    design = FoldDesign(tuple(range(6)), (0, 1, 2, 0, 1, 2))
    layout = Layout(("a", "b"), (), np.arange(2), np.full((3, 6), 2), design)
    first, second, split = halves(layout, 9, np.random.default_rng(0))
    assert split == 2
    for half in (first, second):
        used = half.reshape(3, 6, 9) != 0
        assert (used.sum(axis=1) == 3).all()
        assert (used == used[2][None]).all()
    assert not ((first != 0) & (second != 0)).any()


def test_corrected_cosine_takes_out_what_the_bootstrap_adds():
    rng = np.random.default_rng(7)
    truth, noise, found = 0.8, 0.15, []
    for _ in range(200):

        def cosine(of, size, n):
            perp = of + size * rng.normal(size=(n, 3))
            return 1 / np.sqrt(1 + np.square(perp).sum(axis=1)), perp

        at = np.array([np.sqrt(1 / truth**2 - 1), 0, 0])
        point, perp = cosine(at, noise, 1)
        draws, _ = cosine(perp, noise, 200)
        found.append((point[0], *corrected_cosine(float(point[0]), draws)))
    point, estimate, low, high = np.array(found).T
    assert abs(np.median(estimate) - truth) < abs(np.median(point) - truth)
    assert np.mean((low <= truth) & (truth <= high)) > 0.9
    assert (low <= estimate).all() and (estimate <= high).all()


class Blocks:
    """A run whose folds are questions, two prompts a role, with question effects far larger than roles."""

    n_layers, d_model, n_folds = 1, 24, 8

    def __init__(self, *, roles=60, spread=1.0, seed=0, played=1.0):
        rng = np.random.default_rng(seed)
        self.roles = tuple(f"r{i:02}" for i in range(roles))
        self.fold_design = FoldDesign(tuple(range(8)), tuple(int(p) for p in PLACES))
        direction = np.eye(24)[0]
        self.places = spread * rng.normal(size=roles)
        values = (
            self.places[:, None, None] * direction
            + 0.3 * rng.normal(size=(roles, 2, 24))[:, PLACES]
            + 20 * (effects := rng.normal(size=(8, 24)))
            + 0.3 * rng.normal(size=(roles, 8, 24))
        )
        used = rng.random((roles, 8)) < played
        self._counts = used.astype(int)
        self._sums = (values * used[:, :, None]).astype(np.float32)
        default = 2.0 * direction + 20 * effects + 0.05 * rng.normal(size=(8, 24))
        self._default = (20 * default).astype(np.float32)

    def counts(self, bucket):
        return self._counts if bucket == "fully" else np.zeros_like(self._counts)

    def default_counts(self):
        return np.full(8, 20)

    def sums(self, bucket, _layer):
        return self._sums if bucket == "fully" else np.zeros_like(self._sums)

    def default_sums(self, _layer):
        return self._default


def test_questions_that_only_some_roles_answered_do_not_pass_for_roles():
    run = Blocks(played=0.5)
    space = build_space(run, min_fully=2, n_boot=60, n_splits=20)
    stats = space.stats
    chosen = [run.roles.index(name) for name in space.roles]
    truth = run.places[chosen] - run.places.mean()
    assert np.corrcoef(stats.projections[0], truth)[0, 1] > 0.9
    zero, one = stats.mean_projection[0], stats.default_projection[0]
    interval = (stats.projection_interval - zero) / (one - zero)
    positions = truth / (2.0 - run.places.mean())
    assert np.mean((interval[:, 0] <= positions) & (positions <= interval[:, 1])) > 0.85
    assert stats.role_reliability[0] > 0.7 and stats.prompt_reliability[0] > 0.7
    assert stats.split_half[0] > 0.9


def test_prompts_without_roles_behind_them_are_told_from_roles():
    run = Blocks(spread=0.0, seed=1)
    # Two prompts of a role differ on the axis as two of different roles do.
    prompts = np.random.default_rng(2).normal(size=(60, 2))[:, PLACES]
    run._sums += (prompts[:, :, None] * np.eye(24)[0]).astype(np.float32)
    stats = build_space(run, min_fully=2, n_boot=60, n_splits=20).stats
    assert stats.prompt_reliability[0] > 0.8
    assert stats.role_reliability_interval[0, 0] == 0.0
