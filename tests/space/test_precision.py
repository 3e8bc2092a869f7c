"""The precision of an axis and of role positions, against worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from personascope.errors import SpaceError
from personascope.space import FoldDesign, LayerSums, cosine_of, measure_precision, split_half_of

D, ROLES, BLOCKS = 60, 40, 12


def world(seed: int, noise: float, blocks: int = BLOCKS) -> tuple[LayerSums, np.ndarray]:
    """Sums of one response of every role and eight of the default in each block, and the true axis."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(ROLES, D)) * 0.3
    default = rng.normal(size=D)
    default *= 3 / np.linalg.norm(default)
    question = rng.normal(size=(blocks, D))
    moved = rng.normal(size=(blocks, D)) * noise
    roles = places[:, None] + question + rng.normal(size=(ROLES, blocks, D)) * 0.2
    at_default = default + question + moved
    sums = LayerSums(
        tuple(f"r{i:02}" for i in range(ROLES)),
        FoldDesign(tuple(range(blocks)), tuple(b % 3 for b in range(blocks))),
        roles.astype(np.float32),
        np.ones((ROLES, blocks), np.int64),
        (8 * at_default).astype(np.float32),
        np.full(blocks, 8),
    )
    return sums, default - places.mean(axis=0)


def test_split_half_and_cosine_say_the_same() -> None:
    assert cosine_of(0.95) == pytest.approx(0.9871, abs=1e-4)
    for value in (0.0, 0.3, 0.8, 0.99):
        assert split_half_of(cosine_of(value)) == pytest.approx(value)


def test_the_bound_holds_and_is_no_looser_than_the_luck_it_allows_for() -> None:
    below, shares = 0, []
    for seed in range(60):
        sums, truth = world(seed, 0.3)
        found = measure_precision(sums, min_fully=4, n_boot=5, n_splits=20)
        axis = (sums.default / 8 - sums.fully.mean(axis=0)).mean(axis=0)
        cosine = float(axis @ truth / np.linalg.norm(axis) / np.linalg.norm(truth))
        below += cosine < found.cosine_low
        shares.append((1 - found.cosine_low**2) / (1 - cosine**2))
        assert found.blocks == BLOCKS and found.responses.tolist() == [BLOCKS] * ROLES
    assert below <= 6
    # The expected error is known well here, so the bound is about a half above it and not many times.
    assert 1.1 < np.median(shares) < 1.9


def test_the_expected_error_is_the_true_one_on_average() -> None:
    errors = []
    for seed in range(60):
        sums, truth = world(seed, 0.6)
        found = measure_precision(sums, min_fully=4, n_boot=5, n_splits=5)
        axis = (sums.default / 8 - sums.fully.mean(axis=0)).mean(axis=0)
        sine = 1 - (axis @ truth) ** 2 / (axis @ axis) / (truth @ truth)
        errors.append((found.noise, sine))
    estimated, true = np.mean(errors, axis=0)
    assert estimated == pytest.approx(true, rel=0.15)


def test_half_widths_cover_the_positions() -> None:
    inside, widths = [], []
    for seed in range(25):
        sums, truth = world(seed, 0.3)
        rng = np.random.default_rng(seed)
        places = rng.normal(size=(ROLES, D)) * 0.3
        found = measure_precision(sums, min_fully=4)
        axis = (sums.default / 8 - sums.fully.mean(axis=0)).mean(axis=0)
        vectors = sums.fully.mean(axis=1)
        position = (vectors - vectors.mean(axis=0)) @ axis / (axis @ axis)
        true = (places - places.mean(axis=0)) @ truth / (truth @ truth)
        inside.append(np.abs(position - true) <= found.half_widths)
        widths.append(found.half_widths.mean())
        assert (found.axis_part >= 0).all()
    assert 0.92 <= np.mean(inside) <= 0.99


def test_fewer_blocks_are_less_certain_and_too_few_are_an_error() -> None:
    sums, _ = world(1, 0.3)
    whole = measure_precision(sums, min_fully=4)
    part = measure_precision(sums.only(np.arange(BLOCKS) < 4), min_fully=4)
    assert part.cosine_low < whole.cosine_low and part.half_widths.mean() > whole.half_widths.mean()
    assert part.blocks == 4 and part.split_half_low < part.split_half
    with pytest.raises(SpaceError, match="two"):
        measure_precision(sums.only(np.arange(BLOCKS) < 1), min_fully=1)
    with pytest.raises(SpaceError, match="a persona space needs 3"):
        measure_precision(sums.only(np.arange(BLOCKS) < 3), min_fully=4)
