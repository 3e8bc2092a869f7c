"""What a precision will cost: a range, from variances measured on other models.

The error of the axis is ``questions / K + response / (K * n) + (prompt + response) / N`` for K questions, n
responses of the default to each and N responses of roles (`_policy`). A run is walked through its rounds with
the variances of the model that knew most, and of the one that knew least, of those measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from personascope.mapping._adaptive import AdaptiveDesign
from personascope.mapping._policy import ROLE_MARGIN
from personascope.mapping._rounds import Round, Rounds
from personascope.space import Z95, cosine_of


@dataclass(frozen=True, slots=True)
class Variances:
    """Variances of a model, in squared position units (0 the mean role, 1 the default).

    Attributes:
        questions: Between questions, of the default's distance from the mean role, all directions together.
        response: Of single responses, all directions together.
        prompt: Between the prompts of a role, likewise.
        own: Of one response's position along the axis, with its prompt.
        played: Share of the responses that enter role vectors.
    """

    questions: float
    response: float
    prompt: float
    own: float
    played: float


MEASURED = (Variances(0.4, 4.2, 0.1, 0.34, 0.8), Variances(0.65, 9.2, 0.7, 1.1, 0.4))
"""Smallest and largest variances of SmolLM2-135M and Qwen2.5-Coder-0.5B and -1.5B (`quick`, `standard`)."""

LUCK = 1.5
"""Quantile of the F distribution by which the expected error of an axis is multiplied at its bound."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How many responses a run will ask, from few to many.

    Attributes:
        least: Number of responses with the smallest variances measured.
        most: Number of responses with the largest.
        whole: Number of responses of the whole design, at which it ends anyhow.
    """

    least: int
    most: int
    whole: int


def expected_size(design: AdaptiveDesign, tokens: float) -> Expected:
    """Estimate how many responses a run asks until it has what it is to stop at.

    Args:
        design: Adaptive design.
        tokens: Mean length of a response, in tokens, for a budget of tokens.
    """
    sizes = [_walk(design, variances, tokens) for variances in MEASURED]
    return Expected(min(sizes), max(sizes), len(design))


def _walk(design: AdaptiveDesign, of: Variances, tokens: float) -> int:
    rounds = Rounds(design)
    made, asked, looks = Round("opening"), 0, 0
    while True:
        asked += sum(len(part) for part in rounds.take(made))
        looks = looks + 1 if _met(design, rounds, of) else 0
        budget = design.until.tokens
        # Two looks running, as in the run itself.
        if looks == 2 or (budget is not None and asked * tokens >= budget):
            return asked
        if rounds.can("balanced"):
            made = Round("balanced")
        elif rounds.can("default"):
            made = Round("default")
        else:
            return asked


def _met(design: AdaptiveDesign, rounds: Rounds, of: Variances) -> bool:
    usable = max(float(rounds.asked.sum()) * of.played, 1.0)
    noise = of.questions / rounds.questions + of.response / (rounds.questions * rounds.of_default)
    noise += (of.prompt + of.response) / usable
    until = design.until
    if until.axis is not None and noise * LUCK <= 1.0 - cosine_of(until.axis) ** 2:
        return True
    each = of.own / max(usable / len(rounds.asked), 1.0)
    return until.roles is not None and ROLE_MARGIN * Z95 * float(np.sqrt(each)) <= until.roles
