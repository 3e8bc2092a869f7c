"""Role information: how much the role prompt raises the model's probability of its own response.

It is the mean over the response's tokens of
``log p(token | role prompt, question) - log p(token | question)``, in nats per token. It shows without a
judge whether the model played the role. The first term comes with generation. The second needs one forward
pass over the response after the question alone.

Neutral prompts ("You are an AI assistant.") change responses too. A response therefore counts as played if
its role information exceeds that of 95% of the default's responses under neutral prompts. The agreement with
human readers is in benchmarks/role_information.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from personascope.engines import Engine, ScoreRequest
from personascope.errors import EngineError, StoreError
from personascope.mapping._design import DEFAULT, Design
from personascope.mapping._unit import Unit
from personascope.store import RunFolder

BASELINE_QUANTILE = 0.95
"""Quantile of the default's role information under neutral prompts above which a response has played."""


def score_unit(engine: Engine, design: Design, unit: Unit) -> None:
    """Fill in the role information and mean log-probability of a unit's responses.

    Responses without a system prompt have role information 0 by definition.

    Raises:
        EngineError: If the engine gives no log-probability of a response, or one that is not finite.
    """
    asked: list[ScoreRequest] = []
    for rollout in unit.rollouts:
        generated = unit.generated.get(rollout.id)
        if generated is None:
            continue
        unit.rows[rollout.id]["log_probability"] = float(np.mean(generated.logprobs[generated.counted]))
        if design.system_prompt(rollout):
            asked.append(ScoreRequest(rollout.id, design.plain_conversation(rollout), generated.token_ids))
        else:
            unit.rows[rollout.id]["role_information"] = 0.0
    for scored in engine.score(asked):
        own, counted = unit.generated[scored.id].logprobs, unit.generated[scored.id].counted
        whole = len(own) == len(scored.logprobs)
        value = float(np.mean((own - scored.logprobs)[counted])) if whole else float("nan")
        if not np.isfinite(value):
            raise EngineError(
                f"the log-probabilities of {scored.id} are missing or not finite",
                hint="run the model in bfloat16 or float32, or map without role information",
            )
        # Round to the stored float32, so that a value read back is on the same side of the threshold.
        unit.rows[scored.id]["role_information"] = float(np.float32(value))
    missing = [request.id for request in asked if unit.rows[request.id]["role_information"] is None]
    if missing:
        raise EngineError(f"the engine scored nothing for {len(missing)} responses, such as {missing[0]}")
    unit.generated.clear()


def baseline(folder: RunFolder, design: Design) -> float:
    """Return the role information above which a response has played, from the default's responses.

    Raises:
        StoreError: If the default's units are not all committed, or all its responses are empty.
    """
    values: list[float] = []
    neutral = {index for index, prompt in enumerate(design.corpus.default_prompts) if prompt}
    for index in range(design.n_default_units):
        if index not in folder.units:
            raise StoreError(f"unit {index} of {folder.path} is not there", hint="run the same command again")
        values += default_values(folder.rows(index).to_pylist(), neutral)
    if not values:
        raise StoreError(
            f"no response of the default in {folder.path} has a token, so nothing can be held against them",
            hint="map with --no-role-information",
        )
    return float(np.quantile(np.array(values, np.float64), BASELINE_QUANTILE))


def default_values(rows: Iterable[dict[str, Any]], neutral: set[int]) -> list[float]:
    """Return the role information of the default's responses under neutral prompts."""
    return [
        row["role_information"]
        for row in rows
        if row["role"] == DEFAULT and row["prompt_index"] in neutral and row["role_information"] is not None
    ]


def mark_played(unit: Unit, threshold: float) -> None:
    """Set ``played`` in the row of every role response of a unit."""
    for row in unit.rows.values():
        if row["role"] != DEFAULT and row["role_information"] is not None:
            row["played"] = row["role_information"] > threshold
