"""Perplexity of responses under the model without a plan."""

from __future__ import annotations

import math
from collections.abc import Iterable

from personascope.chat import Conversation
from personascope.engines import Engine, ScoreRequest


def perplexities(
    engine: Engine, items: Iterable[tuple[str, Conversation | tuple[int, ...], tuple[int, ...]]]
) -> dict[str, float]:
    """Return the perplexity of each response: exp of the mean negative log-probability of its tokens.

    Args:
        engine: Engine of the model; no plan is applied.
        items: (id, prompt, response tokens) of each response; responses without tokens are left out.
    """
    requests = (ScoreRequest(id, prompt, tokens) for id, prompt, tokens in items if tokens)
    found = engine.score(requests)
    return {scored.id: math.exp(-float(scored.logprobs.mean(dtype="float64"))) for scored in found}
