"""Resampling plans: which folds and roles each draw weighs, and by how much. No activations here.

A unit is one vector of the persona space: a role's "fully" mean, a role's "somewhat" mean, or
the default. Units stand in this order: R fully, S somewhat, the default last. A draw gives every
(unit, fold) a coefficient, so that coefficients times fold sums is the unit's resampled mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personascope.errors import SpaceError

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The units and the responses behind them."""

    roles: tuple[str, ...]
    """Names of the R roles with a "fully" vector."""
    somewhat: tuple[str, ...]
    """Names of the S roles with a "somewhat" vector."""
    owner: Array
    """[R + S] index into the union of both name lists: roles are resampled, not units."""
    counts: Array
    """[R + S + 1, F] responses, int64; the default is the last row."""

    @property
    def n_units(self) -> int:
        """Vectors of the persona space: R + S."""
        return len(self.counts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """B resampled spaces."""

    coefficients: Array
    """[R + S + 1, F, B] float32: times the fold sums gives the unit means of a draw."""
    weights: Array
    """[R + S, B] float32: how often each unit's role was drawn."""


def means(layout: Layout) -> Array:
    """Coefficients of the plain means, [R + S + 1, F] float64."""
    return (layout.counts > 0) / layout.counts.sum(axis=1, keepdims=True)


def fold_bootstrap(counts: Array, n: int, rng: np.random.Generator) -> Array:
    """Resample each unit's folds with replacement.

    With K folds, the spread of such draws is (K - 1) / K of the true sampling variance (1/8 too
    small at 8 folds): intervals are a little narrow, as with any bootstrap of K items.

    Args:
        counts: [U, F] responses. Folds without responses are never drawn.
        n: Number of draws.
        rng: Source of randomness.

    Returns:
        Coefficients [U, F, n], float32.
    """
    out = np.zeros((*counts.shape, n), np.float32)
    for u, row in enumerate(counts):
        live = np.flatnonzero(row)
        times = rng.multinomial(len(live), np.full(len(live), 1 / len(live)), size=n)
        out[u, live] = (times / (times @ row[live])[:, None]).T
    return out


def bootstrap(layout: Layout, n: int, rng: np.random.Generator) -> Draws:
    """Resample folds within every unit, and roles among roles (duplicates become weights)."""
    n_roles = int(layout.owner.max()) + 1
    fully = len(layout.roles)
    weights = np.zeros((n_roles, n), np.float32)
    for b in range(n):
        # Fewer than two different roles with a "fully" vector span no space.
        while np.count_nonzero(weights[layout.owner[:fully], b]) < 2:
            weights[:, b] = np.bincount(rng.integers(n_roles, size=n_roles), minlength=n_roles)
    return Draws(fold_bootstrap(layout.counts, n, rng), weights[layout.owner])


def halves(layout: Layout, n: int, rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Axis coefficients of random halves of the folds, within each role and the default.

    A role with responses in one fold only cannot be split and is left out of both halves.

    Returns:
        Two arrays [(R + S + 1) * F, n], and the number of roles that were split.

    Raises:
        SpaceError: The default, or every role, has responses in fewer than two folds.
    """
    n_fully = len(layout.roles)
    live = [np.flatnonzero(row) for row in layout.counts]
    splittable = [u for u in range(n_fully) if len(live[u]) >= 2]
    if len(live[-1]) < 2 or not splittable:
        raise SpaceError(
            f"split halves need responses in two folds: the default has {len(live[-1])}, "
            f"and {len(splittable)} roles have two",
            mend="Collect more responses, at least two of the default and of a role in different folds.",
        )
    out = np.zeros((2, *layout.counts.shape, n))
    for u in [*splittable, layout.n_units]:
        sign = 1.0 if u == layout.n_units else -1.0 / len(splittable)
        folds = live[u]
        first = np.zeros((len(folds), n), bool)
        first[: len(folds) // 2] = True
        first = rng.permuted(first, axis=0)
        for half, members in enumerate((first, ~first)):
            out[half, u, folds] = sign * members / (layout.counts[u, folds] @ members)
    flat = out.reshape(2, -1, n)
    return flat[0], flat[1], len(splittable)


def null(layout: Layout, n: int, rng: np.random.Generator) -> tuple[Draws, int]:
    """Relabel random role folds as the default; their roles' means do without them.

    As many folds are drawn as hold the default's number of responses, but no fewer than the
    default has folds, and no more than half of all (a default as large as all roles together
    would leave none). Every role keeps at least one fold.

    Returns:
        Draws in which the last unit is the pseudo-default (made of role folds, so its
        coefficients on the true default's folds are not used: see ``pseudo_default``), and the
        number of folds drawn.

    Raises:
        SpaceError: No role has responses in two folds.
    """
    n_fully = len(layout.roles)
    counts = layout.counts[:n_fully]
    live = counts > 0
    spare = int((live.sum(axis=1) - 1).sum())
    if spare < 1:
        raise SpaceError(
            "the null needs a role with responses in two folds, and none has",
            mend="Collect more responses for each role.",
        )
    wanted = round(layout.counts[-1].sum() / counts[live].mean())
    k = min(max(wanted, int((layout.counts[-1] > 0).sum())), max(1, int(live.sum()) // 2), spare)
    taken = np.zeros((*counts.shape, n), bool)
    for b in range(n):
        order = np.where(live, rng.random(counts.shape), -1.0)
        # The fold with the largest number of each role stays with it; of the rest, the k largest go.
        order[np.arange(n_fully), order.argmax(axis=1)] = -1.0
        taken[..., b].flat[np.argsort(order, axis=None)[-k:]] = True
    coefficients = np.repeat(means(layout)[:, :, None], n, axis=2)
    kept = live[:, :, None] & ~taken
    coefficients[:n_fully] = kept / (kept * counts[:, :, None]).sum(axis=1, keepdims=True)
    return Draws(coefficients.astype(np.float32), np.ones((layout.n_units, n), np.float32)), k


def pseudo_default(layout: Layout, draws: Draws) -> Array:
    """Coefficients [R, F, B] of the pseudo-default: the folds that ``null`` took from the roles."""
    n_fully = len(layout.roles)
    counts = layout.counts[:n_fully, :, None]
    taken = (draws.coefficients[:n_fully] == 0) & (counts > 0)
    return taken / (taken * counts).sum(axis=(0, 1))
