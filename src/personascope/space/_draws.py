"""Resampling weights of folds and roles, without activations.

A unit is one vector of the persona space (a role's "fully" mean or "somewhat" mean) or the default. Units are
ordered: R fully, S somewhat, the default last. A draw gives every (unit, fold) a coefficient, and the
coefficients times the fold sums are the unit's resampled mean.

If the folds are blocks of questions (`FoldDesign`), the sums of a fold are centred on that fold's mean over
roles. The common effect of a question is then absent from the roles' sums, and remains only in the default's.
A draw resamples each role's prompts, with all responses under them, and the blocks of questions through the
default. If the folds are random, each unit's folds are resampled independently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personascope.errors import SpaceError
from personascope.space._sums import FoldDesign

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The units, and the numbers of responses behind them."""

    roles: tuple[str, ...]
    """Names of the R roles with a "fully" vector."""
    somewhat: tuple[str, ...]
    """Names of the S roles with a "somewhat" vector."""
    owner: Array
    """[R + S] index of each unit's role in the union of both name lists; roles are resampled, not units."""
    counts: Array
    """[R + S + 1, F] numbers of responses, int64; the default is the last row."""
    design: FoldDesign | None = None
    """Meaning of the folds; None if they are random."""

    @property
    def clusters(self) -> Array:
        """[F] cluster of each fold in a role's resampling: the prompt slot, or the fold itself if random."""
        n_folds = self.counts.shape[1]
        return np.arange(n_folds) if self.design is None else np.array(self.design.prompts)

    @property
    def blocks(self) -> Array:
        """[F] cluster of each fold in the default's resampling: its block of questions, or itself."""
        n_folds = self.counts.shape[1]
        return np.arange(n_folds) if self.design is None else np.array(self.design.questions)

    @property
    def n_units(self) -> int:
        """Number of vectors in the persona space: R + S."""
        return len(self.counts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Weights of B resampled spaces."""

    coefficients: Array
    """[R + S + 1, F, B] float32 coefficients; times the fold sums they give the unit means of a draw."""
    weights: Array
    """[R + S, B] float32 number of times that each unit's role was drawn."""


def means(layout: Layout) -> Array:
    """Return the coefficients of the unresampled means, [R + S + 1, F] float64.

    The default's blocks of questions have equal weight, so that its mean is over questions and not over
    responses (the two differ only if some responses are empty).
    """
    out = (layout.counts > 0) / layout.counts.sum(axis=1, keepdims=True)
    if layout.design is not None:
        default = layout.counts[-1]
        out[-1] = np.where(default > 0, 1.0 / np.maximum(default, 1), 0.0) / np.count_nonzero(default)
    return out


def cluster_bootstrap(counts: Array, clusters: Array, n: int, rng: np.random.Generator) -> Array:
    """Resample each unit's K clusters of folds, drawing K - 1 with replacement.

    Drawing K - 1 of K clusters gives an unbiased variance of the mean. Drawing all K would bias it by the
    factor (K - 1) / K, which is a half for two prompts (Rao and Wu 1988).

    Args:
        counts: [U, F] numbers of responses. Folds without responses are never drawn.
        clusters: [F] cluster of each fold. If all responses of a unit lie in one cluster, its folds are
            resampled instead.
        n: Number of draws.
        rng: Random generator.

    Returns:
        Coefficients [U, F, n], float32.
    """
    out = np.zeros((*counts.shape, n), np.float32)
    for u, row in enumerate(counts):
        live = np.flatnonzero(row)
        names, of_fold = np.unique(clusters[live], return_inverse=True)
        if len(names) < 2:
            names, of_fold = live, np.arange(len(live))
        drawn = max(1, len(names) - 1)
        times = rng.multinomial(drawn, np.full(len(names), 1 / len(names)), size=n)[:, of_fold]
        out[u, live] = (times / (times @ row[live])[:, None]).T
    return out


def bootstrap(layout: Layout, n: int, rng: np.random.Generator) -> Draws:
    """Draw bootstrap weights: resample prompts and questions (or folds), and roles (repeats are weights)."""
    n_roles = int(layout.owner.max()) + 1
    fully = len(layout.roles)
    weights = np.zeros((n_roles, n), np.float32)
    for b in range(n):
        # PCA needs at least two different roles with a "fully" vector.
        while np.count_nonzero(weights[layout.owner[:fully], b]) < 2:
            weights[:, b] = np.bincount(rng.integers(n_roles, size=n_roles), minlength=n_roles)
    coefficients = np.concatenate(
        [
            cluster_bootstrap(layout.counts[:-1], layout.clusters, n, rng),
            default_bootstrap(layout, n, rng)[None],
        ]
    )
    return Draws(coefficients, weights[layout.owner])


def default_bootstrap(layout: Layout, n: int, rng: np.random.Generator) -> Array:
    """Resample the default's blocks of questions (or folds); return coefficients [F, n], float32."""
    counts = layout.counts[-1]
    if layout.design is None:
        return cluster_bootstrap(counts[None], layout.blocks, n, rng)[0]
    live = np.flatnonzero(counts)
    names, of_fold = np.unique(layout.blocks[live], return_inverse=True)
    drawn = max(1, len(names) - 1)
    times = rng.multinomial(drawn, np.full(len(names), 1 / len(names)), size=n)[:, of_fold]
    out = np.zeros((len(counts), n), np.float32)
    out[live] = (times / times.sum(axis=1, keepdims=True) / counts[live]).T
    return out


def halves(layout: Layout, n: int, rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Return axis coefficients of random halves of the question blocks, shared by all roles and the default.

    If the folds are random, they are halved within each role and the default. A role with responses in only
    one half is left out of both.

    Returns:
        Two arrays [(R + S + 1) * F, n], and the median over draws of the number of roles in both halves.

    Raises:
        SpaceError: If the default, or every role, has responses in fewer than two folds, there is only one
            block of questions, or no halving has a role with responses in both halves.
    """
    n_fully, n_folds = len(layout.roles), layout.counts.shape[1]
    rows = [*range(n_fully), layout.n_units]
    counts = layout.counts[rows]
    live = counts > 0
    splittable = int((live[:-1].sum(axis=1) >= 2).sum())
    if live[-1].sum() < 2 or not splittable:
        raise SpaceError(
            f"split halves need responses in two folds: the default has {int(live[-1].sum())}, "
            f"and {splittable} roles have two",
            hint="Collect more responses, at least two of the default and of a role in different folds.",
        )
    first = np.zeros((len(rows), n_folds, n), bool)
    if layout.design is None:
        for place, folds in enumerate(live):
            order = np.where(folds[:, None], rng.random((n_folds, n)), 2.0).argsort(axis=0)
            np.put_along_axis(first[place], order[: int(folds.sum()) // 2], True, axis=0)
    else:
        names, of_fold = np.unique(layout.blocks, return_inverse=True)
        if len(names) < 2:
            raise SpaceError(
                "split halves need two blocks of questions, and there is one",
                hint="Ask two questions or more.",
            )
        order = rng.random((len(names), n)).argsort(axis=0)
        chosen = np.zeros((len(names), n), bool)
        np.put_along_axis(chosen, order[: len(names) // 2], True, axis=0)
        first[:] = chosen[of_fold][None]
    out = np.zeros((2, *layout.counts.shape, n))
    sides = np.stack([first & live[:, :, None], ~first & live[:, :, None]])
    sizes = np.einsum("hufn,uf->hun", sides, counts)
    both = (sizes > 0).all(axis=0)
    split = both[:-1].sum(axis=0)
    for half in range(2):
        mean = sides[half] / np.maximum(sizes[half], 1)[:, None, :]
        out[half][rows[:-1]] = -mean[:-1] * (both[:-1] / np.maximum(split, 1))[:, None, :]
        if layout.design is None:
            out[half][-1] = mean[-1]
        else:
            blocks = sides[half][-1] / np.maximum(counts[-1], 1)[:, None]
            out[half][-1] = blocks / np.maximum(sides[half][-1].sum(axis=0), 1)
    usable = both[-1] & (split > 0)
    if not usable.any():
        raise SpaceError(
            "no role has responses to both halves of the questions, in any halving",
            hint="Collect more responses for each role.",
        )
    flat = out[..., usable].reshape(2, -1, int(usable.sum()))
    return flat[0], flat[1], int(np.median(split))


def null(layout: Layout, n: int, rng: np.random.Generator) -> tuple[Draws, int]:
    """Draw the null: relabel random role folds as the default, and leave them out of their roles' means.

    The number of relabelled folds matches the default's number of responses, but is at least the default's
    number of folds and at most half of all folds (a default as large as all roles would otherwise leave
    none). Every role keeps at least one fold.

    Returns:
        Draws for a pseudo-default, and the number of relabelled folds. The pseudo-default consists of role
        folds, so the last unit's coefficients are unused; get its own from ``pseudo_default``.

    Raises:
        SpaceError: If no role has responses in two folds.
    """
    n_fully = len(layout.roles)
    counts = layout.counts[:n_fully]
    live = counts > 0
    spare = int((live.sum(axis=1) - 1).sum())
    if spare < 1:
        raise SpaceError(
            "the null needs a role with responses in two folds, and none has",
            hint="Collect more responses for each role.",
        )
    wanted = round(layout.counts[-1].sum() / counts[live].mean())
    k = min(max(wanted, int((layout.counts[-1] > 0).sum())), max(1, int(live.sum()) // 2), spare)
    taken = np.zeros((*counts.shape, n), bool)
    for b in range(n):
        order = np.where(live, rng.random(counts.shape), -1.0)
        # Each role keeps its fold with the largest random key; of the rest, the k largest keys are taken.
        order[np.arange(n_fully), order.argmax(axis=1)] = -1.0
        taken[..., b].flat[np.argsort(order, axis=None)[-k:]] = True
    coefficients = np.repeat(means(layout)[:, :, None], n, axis=2)
    kept = live[:, :, None] & ~taken
    coefficients[:n_fully] = kept / (kept * counts[:, :, None]).sum(axis=1, keepdims=True)
    return Draws(coefficients.astype(np.float32), np.ones((layout.n_units, n), np.float32)), k


def pseudo_default(layout: Layout, draws: Draws) -> Array:
    """Return the coefficients [R, F, B] of the pseudo-default: the folds that ``null`` took from roles."""
    n_fully = len(layout.roles)
    counts = layout.counts[:n_fully, :, None]
    taken = (draws.coefficients[:n_fully] == 0) & (counts > 0)
    return taken / (taken * counts).sum(axis=(0, 1))
