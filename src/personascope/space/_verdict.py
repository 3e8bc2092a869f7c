"""The verdict on a map: three questions, each with a grade and the figures that led to it.

docs/verdict.md lists the runs that the criteria were chosen on, and the four blind cases that they were then
tested on (random weights, system prompts that never reached the model, shuffled role labels, one plain
sentence as every role's prompt).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from personascope.space._checks import FOLLOWED, MADE_OF, NUISANCES, Grade, MapChecks, OtherVectors
from personascope.space._space import SpaceStats

GRADES: tuple[Grade, ...] = ("not found", "weak", "found")

SPLIT_HALF = (0.5, 0.8)
"""Bounds of the split-half cosine of the axis: at least the first for weak, the second for found."""
PROMPT_RELIABILITY = (0.3, 0.6)
"""Bounds of the prompt reliability for weak and found."""
ROLE_RELIABILITY = 0.3
"""Role reliability below which the axis is weak at best."""
PLAYED = (0.15, 0.33)
"""Bounds of the share of responses that played, for weak and found; neutral prompts reach 0.05 by chance."""
MAIN_COSINE = 0.6
"""Bound of cos(axis, PC1) for a main component; the paper finds higher values at every layer."""
DEFAULT_PERCENTILE = (0.8, 0.95)
"""Bounds of the share of roles below the default on PC1, for weak and found."""
GARBLED = 0.5
"""Share of loops or garble among responses above which there is no axis."""
PERPLEXITY = 50.0
"""Perplexity of a model on its own responses above which it does not write text. Language models sampled at
temperature 0.7 have 2 to 10."""
UNKNOWN = 0.8
"""Width of the cosine's interval above which it is uninformative."""
FOLLOWS = 0.7
"""Correlation from which a component is said to follow a nuisance: half of its variance."""
CUT = 0.5
"""Share of responses cut off by the length limit above which a warning is given."""


def grade(value: float, bounds: tuple[float, float]) -> Grade:
    """Return the grade of a value, given the bounds for weak and found; NaN is "not found"."""
    return "found" if value >= bounds[1] else "weak" if value >= bounds[0] else "not found"


def worst(grades: list[Grade]) -> Grade:
    """Return the lowest of the grades."""
    return min(grades, key=GRADES.index)


def choose_layer(
    split_half: Float[np.ndarray, "L"],
    prompt_reliability: Float[np.ndarray, "L"],
    role_reliability: Float[np.ndarray, "L"],
    role_low: Float[np.ndarray, "L"],
) -> int:
    """Return the layer nearest the middle among those where the axis has the best grade.

    Only the middle half of the depth is considered: early layers have computed too little, and steering at
    the last layers comes too late.
    """
    n_layers = len(split_half)
    figures = zip(split_half, prompt_reliability, role_reliability, role_low, strict=True)
    ranks = [
        GRADES.index(worst([grade(a, SPLIT_HALF), _grade_prompts(b, c), _grade_roles(c, low)]))
        for a, b, c, low in figures
    ]
    within = range(n_layers // 4, min(3 * n_layers // 4 + 1, n_layers))
    best = max(ranks[layer] for layer in within)
    middle = n_layers // 2
    return min((at for at in within if ranks[at] == best), key=lambda at: (abs(at - middle), -at))


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question of the verdict.

    Attributes:
        grade: "found", "weak" or "not found"; "unknown" if the map lacks the necessary records.
        reasons: Figures that led to the grade, the decisive ones first.
    """

    grade: Grade
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answers to three separate questions; in small models, any of them may hold without the others.

    Attributes:
        layer: Layer of the verdict.
        axis: Is there an axis: stable over questions, with a replicable order of roles, and with roles that
            were played?
        main: Is the axis the main component of the persona space?
        default: Is the default at the end of the first component?
        warnings: Nuisances that the components follow, and weaknesses of the data.
    """

    layer: int
    axis: Finding
    main: Finding
    default: Finding
    warnings: tuple[str, ...]

    @property
    def answers(self) -> tuple[tuple[str, Finding], ...]:
        """The three questions with their findings."""
        return (
            ("Is there an axis?", self.axis),
            ("Is it the main component?", self.main),
            ("Is the default at its end?", self.default),
        )

    @property
    def headline(self) -> str:
        """The three grades on one line."""
        return headline(self.axis.grade, self.main.grade, self.default.grade)


def verdict_at(stats: SpaceStats, checks: MapChecks | None, layer: int) -> Verdict:
    """Return the verdict on one layer from the statistics and checks of a map.

    Args:
        stats: Statistics of the space.
        checks: Checks of the mapping run; None for a map of the first design, whose verdict is unknown.
        layer: Layer to assess.
    """
    cosine, corrected = float(stats.cos_axis_pc1[layer]), float(stats.cos_axis_pc1_corrected[layer])
    low, high = (float(value) for value in stats.cos_axis_pc1_interval[layer])
    null = float(stats.null_q95[layer])
    percentile = float(stats.default_percentile[layer, 0])
    if checks is None or np.isnan(stats.role_reliability[layer]):
        unknown = Finding("unknown", ("made before maps checked whether they are one: map the model again",))
        return Verdict(layer, unknown, unknown, unknown, ())
    split, roles = float(stats.split_half[layer]), float(stats.role_reliability[layer])
    roles_low, roles_high = (float(value) for value in stats.role_reliability_interval[layer])
    prompts = float(stats.prompt_reliability[layer])
    graded: list[tuple[Grade, str]] = [
        (grade(split, SPLIT_HALF), f"axes of two halves of the questions: cosine {split:.2f}"),
        (
            _grade_prompts(prompts, roles),
            f"with other questions {_share(prompts)} of the prompts' spread on it lasts",
        ),
        (
            _grade_roles(roles, roles_low),
            f"with other prompts {roles:.0%} of the roles' spread lasts "
            f"({roles_low:.0%} to {roles_high:.0%})",
        ),
    ]
    played = checks.played
    if played is not None:
        graded.append((grade(played, PLAYED), f"{played:.0%} of the responses played their role"))
    if checks.garbled > GARBLED:
        graded.append(("not found", f"{checks.garbled:.0%} of the responses are garble or loops"))
    if checks.perplexity is not None and checks.perplexity > PERPLEXITY:
        graded.append(
            (
                "not found",
                f"the model finds its own responses improbable (perplexity {checks.perplexity:.0f})",
            )
        )
    axis = _finding(graded)
    main_grade: Grade = "not found"
    if low > null and corrected >= MAIN_COSINE:
        main_grade = "found"
    elif cosine > null:
        main_grade = "weak"
    main = Finding(
        main_grade,
        (
            f"cos(axis, PC1) {cosine:.2f}, null {null:.2f}; without noise "
            + (f"{corrected:.2f} ({low:.2f} to {high:.2f})" if high - low < UNKNOWN else "it cannot be told"),
            *_nearer(checks.cosines[layer] if checks.cosines else (), null),
        ),
    )
    position = float(stats.default_position[layer, 0])
    default = Finding(
        grade(percentile, DEFAULT_PERCENTILE),
        (f"above {percentile:.0%} of the roles on PC1, at {position:.2f} of their range",),
    )
    grades = (axis.grade, main.grade, default.grade)
    return Verdict(layer, axis, main, default, (*_warnings(checks, layer), *_otherwise(checks.other, grades)))


def other_vectors(stats: SpaceStats, checks: MapChecks, vectors: str, layer: int) -> OtherVectors:
    """Return the verdict on a map of the same run with the other kind of vectors.

    Args:
        stats: Statistics of that map.
        checks: Checks of the run.
        vectors: Kind of responses in its role vectors.
        layer: Its middle layer.
    """
    found = verdict_at(stats, checks, layer)
    return OtherVectors(vectors, layer, found.axis.grade, found.main.grade, found.default.grade)


def _otherwise(other: OtherVectors | None, grades: tuple[Grade, ...]) -> tuple[str, ...]:
    if other is None or (other.axis, other.main, other.default) == grades:
        return ()
    return (
        f"with vectors of {MADE_OF[other.vectors]} (--vectors {other.vectors}), the same run gives another "
        f"verdict: {headline(other.axis, other.main, other.default)}",
    )


def headline(axis: Grade, main: Grade, default: Grade) -> str:
    """Return three grades on one line."""
    return f"axis {axis}; main component: {main}; default at its end: {default}"


def _nearer(cosines: Sequence[float], null: float) -> tuple[str, ...]:
    # Components of nearly equal variance swap places by chance, and the axis then lies along the second.
    sizes = [abs(cosine) for cosine in cosines]
    place = sizes.index(max(sizes)) if sizes else 0
    if not place or sizes[place] <= null:
        return ()
    return (f"the axis lies nearer to PC{place + 1}: cosine {sizes[place]:.2f}",)


def _grade_prompts(prompts: float, roles: float) -> Grade:
    # If the design cannot estimate the prompts' reliability, the roles' stands in for it.
    return grade(roles if np.isnan(prompts) else prompts, PROMPT_RELIABILITY)


def _grade_roles(roles: float, low: float) -> Grade:
    # Without a replicable order of roles the axis may still order prompts, so it is weak rather than absent.
    return "found" if roles >= ROLE_RELIABILITY and low > 0 else "weak"


def _share(value: float) -> str:
    return "an unknown share" if np.isnan(value) else f"{value:.0%}"


def _finding(graded: list[tuple[Grade, str]]) -> Finding:
    ordered = sorted(graded, key=lambda item: GRADES.index(item[0]))
    return Finding(ordered[0][0], tuple(reason for _, reason in ordered))


def _warnings(checks: MapChecks, layer: int) -> tuple[str, ...]:
    found: list[str] = []
    for column, followed in enumerate(FOLLOWED):
        row = checks.correlations[layer, :, column]
        for name, value in sorted(zip(NUISANCES, row.tolist(), strict=True), key=lambda item: -abs(item[1])):
            if abs(value) >= FOLLOWS:
                found.append(f"{followed} follows {name} (r = {value:+.2f} over {checks.n_roles} roles)")
    if checks.cut > CUT:
        found.append(f"{checks.cut:.0%} of the responses were cut off by the limit of tokens")
    if checks.threshold is not None and checks.vectors == "rubric":
        found.append("role vectors are of all responses with the score 3, whether they played or not")
    if checks.played is None:
        found.append("whether roles were played was not measured")
    return tuple(found)
