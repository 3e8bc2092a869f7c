"""Do the tests of `compare` keep their size, and do its intervals cover the truth? Simulated pairs of maps.

Roles have loadings on five components of two maps, and places on two axes. Without a relation, a test at 5%
should find one in 5% of the pairs. With a known one, an interval should hold the true figure in 95%: the
figure over all roles that could have been drawn. Of a dimensionality it is the mean over pairs with as many
roles, since a space of more roles has more dimensions.

    python benchmarks/compare_null.py        # two to three minutes; writes compare_null.md
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.stats import ortho_group

from personascope.comparison._geometry import SharedSpaces, geometry
from personascope.comparison._loadings import match_components
from personascope.comparison._resample import Draws, agreement

PAGE = Path(__file__).with_suffix(".md")
FIRST, SECOND = np.array([4.0, 2.0, 1.5, 1.2, 1.0]), np.array([3.5, 2.2, 1.6, 1.1, 0.9])
"""Variances of the loadings on the five components of both maps."""
NULL_PAIRS, NULL_DRAWS = 600, 200
PAIRS, DRAWS = 300, 400
SPACES, D = 100, 200
WORLDS = {
    "weak, in order": np.diag([0.4, 0.3, 0.2, 0.1, 0.0]),
    "PC1 alone": np.diag([0.92, 0.0, 0.0, 0.0, 0.0]),
    "strong, in order": np.diag([0.95, 0.8, 0.7, 0.6, 0.5]),
    "rotated": ortho_group.rvs(5, random_state=5) @ np.diag([0.9, 0.8, 0.7, 0.6, 0.5]),
}
"""Correlations of the loadings of the first map (columns) with those of the second (rows)."""
SPECTRA = {
    "even fall": 1 / np.arange(1, D + 1),
    "flat": np.arange(1, D + 1) ** -0.5,
    "three components and noise": np.r_[3.0, 2.0, 1.0, np.full(D - 3, 0.02)],
}


def loadings(
    relation: np.ndarray, n: int, rng: np.random.Generator, *, heavy: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the loadings of n roles in both maps; heavy for Student's t with 4 degrees of freedom."""
    first, own = rng.normal(size=(2, n, 5))
    rest = np.linalg.cholesky(np.eye(5) - relation @ relation.T + 1e-12 * np.eye(5))
    second = first @ relation.T + own @ rest.T
    if heavy:
        first, second = (one / np.sqrt(rng.chisquare(4, size=(n, 1)) / 4) for one in (first, second))
    return first * np.sqrt(FIRST), second * np.sqrt(SECOND)


def truth(relation: np.ndarray) -> dict[str, float]:
    """Return the figures over all roles that could be drawn."""
    between = np.sqrt(FIRST)[:, None] * relation.T * np.sqrt(SECOND)
    left, strengths, right = np.linalg.svd(between)
    rotation = right.T @ left.T
    turned = np.diag(rotation.T @ np.diag(SECOND) @ rotation)
    r = float(relation[0, 0])
    return {
        "PC1 with PC1": abs(r),
        "Procrustes": float(strengths.sum() / np.sqrt(FIRST.sum() * SECOND.sum())),
        "PC1 with the rotated": float((between @ rotation)[0, 0] / np.sqrt(FIRST[0] * turned[0])),
        "canonical 1": float(np.linalg.svd(relation, compute_uv=False)[0]),
        "canonical 3": float(np.linalg.svd(relation, compute_uv=False)[2]),
        "axis, Pearson": r,
        "axis, Spearman": float(6 / np.pi * np.arcsin(r / 2)),
    }


def figures(first: np.ndarray, second: np.ndarray, draws: Draws) -> dict[str, Any]:
    """Return the statistics of a pair; the first component serves as the axis."""
    found = match_components(first, second, draws)
    pearson, spearman = agreement(first[:, 0], second[:, 0], draws)
    return {
        "PC1 with PC1": found.order[0],
        "assigned, mean": found.assignment_mean,
        "Procrustes": found.procrustes,
        "PC1 with the rotated": found.rotated[0],
        "canonical 1": found.canonical[0],
        "canonical 3": found.canonical[2],
        "axis, Pearson": pearson,
        "axis, Spearman": spearman,
    }


def held_rotation(first: np.ndarray, second: np.ndarray, draws: Draws) -> bool:
    """Whether the Procrustes correlation is above a null that holds the rotation: the mistake to avoid."""
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    left, strengths, right = np.linalg.svd(a.T @ b)
    held = np.einsum("ni,bnj,ji->b", a, b[draws.permuted], right.T @ left.T, optimize=True)
    return bool(strengths.sum() > np.quantile(np.abs(held), 0.95))


def size_of_tests(rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of the table of pairs without a relation."""
    for heavy in (False, True):
        for n in (12, 22, 60, 150):
            found: dict[str, list[bool]] = {}
            for seed in range(NULL_PAIRS):
                pair = loadings(np.zeros((5, 5)), n, rng, heavy=heavy)
                draws = Draws.make(n, NULL_DRAWS, seed)
                for name, one in figures(*pair, draws).items():
                    found.setdefault(name, []).append(one.p_value <= 0.05)
                found.setdefault("held", []).append(held_rotation(*pair, draws))
            shares = " | ".join(f"{np.mean(one):.3f}" for one in found.values())
            yield f"| {'heavy tails' if heavy else 'normal'} | {n} | {shares} |"


def coverage(rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of the table of pairs with a known relation."""
    for world, relation in {"none": np.zeros((5, 5)), **WORLDS}.items():
        true = truth(relation)
        for n in (22, 60, 150):
            held: dict[str, list[bool]] = {name: [] for name in true}
            measured: list[float] = []
            for seed in range(PAIRS):
                found = figures(*loadings(relation, n, rng), Draws.make(n, DRAWS, seed))
                measured.append(found["Procrustes"].value)
                for name, value in true.items():
                    # The sign of |r| is set by the roles that were drawn, so 0 to the other side is held too.
                    one = found[name]
                    held[name].append(one.low - 1e-9 <= value <= one.high + 1e-9)
            shares = " | ".join(f"{np.mean(one):.3f}" for one in held.values())
            yield f"| {world} | {n} | {true['Procrustes']:.2f} | {np.mean(measured):.2f} | {shares} |"


def a_view(loads: np.ndarray, basis: np.ndarray, default: np.ndarray) -> Any:
    """Return what `SharedSpaces` and `geometry` read of a map."""
    vectors = loads @ basis
    axis = default @ basis - vectors.mean(axis=0)
    components = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[2][:5]
    return SimpleNamespace(
        vectors=vectors, default=default @ basis, axis=axis / np.linalg.norm(axis), components=components
    )


def spaces(rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of the table of dimensionality and geometry, over 40 roles."""
    n, rows = 40, (np.arange(40), np.arange(40))
    for name, spectrum in SPECTRA.items():
        size = np.sqrt(spectrum)
        # The second map has the first's roles with noise, in the same coordinates.
        mix = np.sqrt(0.7)

        def pair(size: np.ndarray = size, mix: float = mix) -> tuple[np.ndarray, np.ndarray]:
            first, own = rng.normal(size=(2, n, D))
            return first * size, (mix * first + np.sqrt(1 - mix**2) * own) * size

        ends = [3 * size, 3 * size * mix + 2 * size[::-1]]
        held: dict[str, list[bool]] = {}
        made: list[dict[str, Any]] = []
        for seed in range(SPACES):
            views = [a_view(loads, np.eye(D), end) for loads, end in zip(pair(), ends, strict=True)]
            draws = Draws.make(n, DRAWS, seed)
            both = SharedSpaces.make(views[0], views[1], rows, 5, draws)
            of, between = both.dimensions(), geometry(views[0], views[1], both, draws, seed)
            made.append(
                {
                    "components for 70%": of.components_for_70.first,
                    "share of PC1": of.pc1_share.first,
                    "participation ratio": of.participation_ratio.first,
                    "its ratio": of.participation_ratio.contrast,
                    "cosine of the axes": between.axis_cosine,
                    "overlap": between.overlap,
                }
            )
        for figure in made[0]:
            true = float(np.mean([one[figure].value for one in made]))
            held[figure] = [one[figure].low <= true <= one[figure].high for one in made]
        yield f"| {name} | " + " | ".join(f"{np.mean(one):.2f}" for one in held.values()) + " |"


def axes(rng: np.random.Generator) -> Iterator[str]:
    """Yield the rows of the table of axes without a relation: defaults that are roles like any other."""
    for name, spectrum in SPECTRA.items():
        size = np.sqrt(spectrum)
        for n in (22, 60):
            found: list[bool] = []
            for seed in range(150):
                views = [
                    a_view(rng.normal(size=(n, D)) * size, np.eye(D), rng.normal(size=D) * size) for _ in "ab"
                ]
                draws = Draws.make(n, 20, seed)
                rows = (np.arange(n), np.arange(n))
                both = SharedSpaces.make(views[0], views[1], rows, 5, draws)
                found.append(geometry(views[0], views[1], both, draws, seed).axis_cosine.p_value <= 0.05)
            yield f"| {name} | {n} | {np.mean(found):.3f} |"


def main() -> None:
    start = time.monotonic()
    rng = np.random.default_rng(0)
    names = list(truth(np.zeros((5, 5))))
    sizes = [*names[:1], "assigned, mean", *names[1:]]
    parts = [
        "# Comparison of maps: size of the tests and coverage of the intervals",
        "",
        "`python benchmarks/compare_null.py`; what is drawn stands in the script.",
        "",
        "## No relation: share of pairs with p at most 0.05",
        "",
        f"{NULL_PAIRS} pairs a row with {NULL_DRAWS} permutations each. 0.05 is asked for, and 95% of the "
        "figures should lie within 0.033 to 0.068. The last column is the Procrustes correlation against a "
        "null that holds the rotation, which is not what `compare` does.",
        "",
        f"| loadings | roles | {' | '.join(sizes)} | rotation held |",
        "|---" * (len(sizes) + 3) + "|",
        *size_of_tests(rng),
        "",
        "Axes whose defaults are roles like any other (150 pairs a row, every role in the default's place; "
        "95% of the figures should lie within 0.02 to 0.09):",
        "",
        "| spectrum | roles | cosine of the axes |",
        "|---|---|---|",
        *axes(rng),
        "",
        "## A known relation: share of intervals that hold the true figure",
        "",
        f"{PAIRS} pairs a row with {DRAWS} draws each. 0.95 is asked for, and 95% of the figures should lie "
        "within 0.92 to 0.97.",
        "",
        f"| relation | roles | Procrustes, true | as measured, mean | {' | '.join(names)} |",
        "|---" * (len(names) + 4) + "|",
        *coverage(rng),
        "",
        f"Dimensionality and geometry: {SPACES} pairs a row of 40 roles in {D} dimensions. The true figure "
        "is the mean over these pairs.",
        "",
        "| spectrum | components for 70% | share of PC1 | participation ratio | its ratio "
        "| cosine of the axes | overlap of 5 components |",
        "|---" * 7 + "|",
        *spaces(rng),
    ]
    PAGE.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
