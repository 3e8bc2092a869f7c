"""Divergence of plans from the model without one, on ordinary chats: the price of a plan, whatever it is for.

The model without a plan answers ordinary questions, sampling at temperature 1. Each plan then scores the same
tokens. The estimate is of KL(no plan || plan) for each token, in nats, over the contexts that the model
without a plan comes to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from personascope.chat import Conversation, Message
from personascope.corpus.datasets import load_chats
from personascope.engines import Completion, Engine, Request, Sampling, Scored, ScoreRequest
from personascope.errors import EvaluationError, UsageError
from personascope.evals._conditions import Condition
from personascope.judge import JudgeItem
from personascope.runs import Job, ProgressCallback, chat_notes, collect, dated, shown
from personascope.stats import Interval, mean_interval
from personascope.store import RunFolder

ANSWER_TOKENS = 64
"""Default maximum length of an answer, in tokens."""

_SAMPLES = "answers without a plan"
_SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Divergence of one condition from no plan.

    Attributes:
        name: Name of the condition.
        kl: KL(no plan || plan) per token, in nats; its interval resamples chats.
    """

    name: str
    kl: Interval


def divergence(
    plain: Sequence[Float[np.ndarray, "tokens"]], planned: Sequence[Float[np.ndarray, "tokens"]]
) -> Interval:
    """Estimate KL(no plan || plan) per token from log-probabilities of tokens sampled without a plan.

    With r = q / p, the ratio of the probabilities under and without the plan, a token contributes
    r - 1 - log r: it has the expectation of -log r, is never negative, and varies less where the two are
    close (J. Schulman, "Approximating KL Divergence", 2020).

    Args:
        plain: Natural log-probabilities of the tokens of each chat without a plan.
        planned: The same tokens' under the plan.

    Raises:
        EvaluationError: If a value is not finite.
    """
    ratios = [np.asarray(q, np.float64) - p for p, q in zip(plain, planned, strict=True)]
    values = np.concatenate([np.expm1(ratio) - ratio for ratio in ratios])
    chats = np.repeat(np.arange(len(ratios)), [len(ratio) for ratio in ratios])
    return mean_interval(values, chats.tolist())


def run_divergence(
    engine: Engine,
    conditions: Sequence[Condition],
    *,
    out: Path | str,
    chats: Sequence[Conversation] | None = None,
    max_new_tokens: int = ANSWER_TOKENS,
    seed: int = 0,
    restart: bool = False,
    command: str = "",
    progress: ProgressCallback | bool = True,
) -> list[Divergence]:
    """Measure how far each condition is from no plan on ordinary chats; resume an interrupted run.

    Args:
        engine: Engine of the model.
        conditions: Conditions to run; their names must differ. No plan is at 0 and is not run.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        chats: Chats whose first user message is answered; the built-in ones by default.
        max_new_tokens: Maximum length of an answer, in tokens.
        seed: Random seed of the answers.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.
        progress: Whether to show a progress bar, or a callback to call after each answer instead.

    Returns:
        A divergence for each condition with a plan, in order.

    Raises:
        UsageError: If two conditions share a name, or no chat has a user message.
        EvaluationError: If the model answers nothing, or a probability is not finite.
        StoreError: If the folder holds another run or cannot be written.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    known = load_chats().chats if chats is None else chats
    asked = first_messages(known)
    planned = [condition for condition in conditions if condition.plan is not None]
    names = [condition.name for condition in planned]
    if len(set(names)) < len(names) or not asked:
        raise UsageError(
            f"{len(asked)} chats under the conditions {', '.join(names)}", hint="name each condition once"
        )
    identity = {
        "evaluation": "divergence",
        "chats": [message.content for message in asked],
        "conditions": [[c.name, c.plan.digest] for c in planned if c.plan],
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "model": [engine.info.model_id, engine.info.model_revision, engine.info.dtype],
    }
    notes = {"command": command, **chat_notes(engine.info)}
    job = _DivergenceJob(asked, planned, max_new_tokens, seed)
    with (
        shown(progress) as tell,
        RunFolder.open(out, identity, notes, restart=restart) as folder,
    ):
        collect(engine, job, folder, None, progress=tell)
        plain = _logprobs(folder, 0)
        found = [_logprobs(folder, number) for number in range(1, len(planned) + 1)]
    return [
        Divergence(condition.name, divergence(list(plain.values()), [under[id] for id in plain]))
        for condition, under in zip(planned, found, strict=True)
    ]


def first_messages(chats: Sequence[Conversation]) -> list[Message]:
    """Return the first user message of each chat that has one."""
    found = (next((message for message in chat if message.role == "user"), None) for chat in chats)
    return [message for message in found if message is not None]


def answer_sampling(max_new_tokens: int) -> Sampling:
    """Return how answers without a plan are drawn: without a nucleus, as the probabilities are compared."""
    return Sampling(temperature=1.0, top_p=1.0, max_new_tokens=max_new_tokens)


def _logprobs(folder: RunFolder, index: int) -> Mapping[str, np.ndarray]:
    table = folder.rows(index)
    return {
        id: np.array(values, np.float64)
        for id, values in zip(table["trial"].to_pylist(), table["logprobs"].to_pylist(), strict=True)
    }


@dataclass(slots=True, eq=False)
class _Unit:
    """Work unit of one condition; index 0 is the answers without a plan.

    Attributes:
        index: Index of the unit.
        answers: Trial -> token ids of its answer.
        logprobs: Trial -> log-probabilities of those tokens.
    """

    index: int
    answers: dict[str, tuple[int, ...]]
    logprobs: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


class _DivergenceJob(Job[_Unit]):
    wave = 1

    def __init__(
        self, asked: Sequence[Message], conditions: Sequence[Condition], max_new_tokens: int, seed: int
    ) -> None:
        self.prompts = {f"chat/{number}": (message,) for number, message in enumerate(asked)}
        self.conditions, self.seed = conditions, seed
        self.sampling = answer_sampling(max_new_tokens)
        self.total = len(asked) * (len(conditions) + 2)

    def done(self, folder: RunFolder) -> int:
        # Each answer without a plan is generated, then scored.
        return len(self.prompts) * (len(folder.units) + (0 in folder.units))

    def unscored(self, folder: RunFolder) -> int:
        del folder
        return 0

    def todo(self, folder: RunFolder) -> Iterator[_Unit | None]:
        if 0 not in folder.units:
            yield _Unit(0, {})
            yield None
        table = folder.rows(0)
        ids, tokens = table["trial"].to_pylist(), table["token_ids"].to_pylist()
        answers = {id: tuple(given) for id, given in zip(ids, tokens, strict=True)}
        for index in range(1, len(self.conditions) + 1):
            if index not in folder.units:
                yield _Unit(index, answers)

    def name(self, unit: _Unit) -> str:
        return self.conditions[unit.index - 1].name if unit.index else _SAMPLES

    def requests(self, unit: _Unit) -> Sequence[Request] | Sequence[ScoreRequest]:
        missing = [id for id in self.prompts if id not in unit.answers]
        if unit.index == 0 and missing:
            return [Request(id, self.prompts[id], self.sampling, seed=self.seed) for id in missing]
        plan = self.conditions[unit.index - 1].plan if unit.index else None
        return [
            ScoreRequest(id, self.prompts[id], answer, plan)
            for id, answer in unit.answers.items()
            if answer and id not in unit.logprobs
        ]

    def take(self, unit: _Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        if isinstance(result, Completion):
            unit.answers[result.id] = result.token_ids
        else:
            unit.logprobs[result.id] = result.logprobs
        return ()

    def commit(self, folder: RunFolder, unit: _Unit) -> None:
        if not unit.logprobs:
            raise EvaluationError(
                f"the model answers none of {len(self.prompts)} ordinary chats",
                hint="check that the model generates text without a plan",
            )
        rows: list[dict[str, Any]] = [
            {"trial": id, "token_ids": unit.answers[id], "logprobs": unit.logprobs[id].tolist()}
            for id in self.prompts
            if id in unit.logprobs
        ]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)
        folder.commit(unit.index, rows=table, meta={"condition": self.name(unit)}, parts={})
