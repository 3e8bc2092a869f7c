"""One question answered under several plans, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from personascope.api._tabular import Tabular
from personascope.chat import Conversation, Message
from personascope.directions import axis_probe
from personascope.engines import Completion, Probe, Request, Sampling
from personascope.errors import ChatError, UsageError
from personascope.interventions import Plan
from personascope.text import shorten

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.space import PersonaMap

PLAIN = "plain"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PlanAnswer:
    """An answer under a plan.

    Attributes:
        name: Name of the plan; "plain" for none.
        plan: Plan; None for none.
        completion: Completion with the answer.
        position: Mean position of the answer's tokens as they were generated, under the plan.
        text_position: Position of the same text read without a plan: what the text itself is like, where
            ``position`` also holds the plan's own push. NaN without a map, and for an empty answer.
        projection: Raw projection behind ``position``.
        text_projection: Raw projection behind ``text_position``.
    """

    name: str
    plan: Plan | None
    completion: Completion
    position: float = math.nan
    text_position: float = math.nan
    projection: float = math.nan
    text_projection: float = math.nan

    @property
    def text(self) -> str:
        """Text of the answer."""
        return self.completion.text


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SideBySide(Tabular):
    """Answers to one question under several plans, with positions and what the caps did.

    Attributes:
        question: Last message of the user.
        answers: Answers, in the order of the plans.
        layer: Layer at which positions are read; None without a map.
        seed: Random seed of all answers.
        persona_map: Name of the map that positions refer to; "" without one.
    """

    question: str
    answers: tuple[PlanAnswer, ...]
    layer: int | None
    seed: int
    persona_map: str

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self.answers)

    def __iter__(self) -> Iterator[PlanAnswer]:
        """Yield the answers."""
        return iter(self.answers)

    def __getitem__(self, index: int) -> PlanAnswer:
        """Return the answer under a plan, by its place."""
        return self.answers[index]

    def headline(self) -> str:
        """Return the question, and under what it was answered."""
        return f"{shorten(self.question)} under {', '.join(answer.name for answer in self.answers)}"

    def notes(self) -> tuple[str, ...]:
        """Return what positions are, or why there are none."""
        if self.layer is None:
            return ("no positions: no map of this model is known; give one by pmap=",)
        return (
            f"positions at layer {self.layer} in units of {self.persona_map} (0 mean role, 1 default "
            "Assistant): as generated under the plan, and of the same text read without it",
        )

    def shown(self) -> tuple[str, ...]:
        """Return the columns of the card."""
        return ("plan", "text", "position", "text_position", "capped_share")

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each plan: text, positions, and how often and how far its caps moved tokens."""
        return [_record(answer) for answer in self.answers]


def _record(answer: PlanAnswer) -> dict[str, Any]:
    done, stats = answer.completion, answer.completion.cap_stats
    capped = stats is not None and bool(stats.fired)
    return {
        "plan": answer.name,
        "text": answer.text,
        "position": answer.position,
        "text_position": answer.text_position,
        "projection": answer.projection,
        "text_projection": answer.text_projection,
        "tokens": len(done.token_ids),
        "finish": done.finish_reason,
        "plan_tokens": 0 if stats is None else stats.tokens,
        "capped_tokens": stats.capped_tokens if capped and stats is not None else None,
        "capped_share": stats.firing_share if capped and stats is not None else None,
        "max_moved": stats.max_moved if capped and stats is not None else None,
    }


def named(plans: Sequence[Plan | None]) -> list[tuple[str, Plan | None]]:
    """Return plans with names that tell them apart; None is "plain".

    Raises:
        UsageError: If there is no plan in the list, or something else.
    """
    if not plans:
        raise UsageError("no plan is given", hint="give a list such as [None, pmap.steer(-0.2)]")
    found: list[tuple[str, Plan | None]] = []
    for index, plan in enumerate(plans):
        if plan is not None and not isinstance(plan, Plan):
            raise UsageError(f"plan {index} is {shorten(str(plan))}", hint="give plans, or None for no plan")
        name = PLAIN if plan is None else plan.name or f"plan {index}"
        taken = {other for other, _ in found}
        found.append((f"{name} ({index})" if name in taken else name, plan))
    return found


def answer_under(
    engine: LocalEngine,
    conversation: Conversation,
    plans: Sequence[Plan | None],
    *,
    sampling: Sampling,
    seed: int,
    persona_map: PersonaMap | None,
    layer: int | None,
) -> tuple[PlanAnswer, ...]:
    """Answer a conversation under every plan in one batch, and read where the answers lie.

    Raises:
        UsageError: If the map has no such layer.
        EngineError: If the engine fails, or a plan is of another model.
    """
    axis: Probe | None = None
    if persona_map is not None:
        axis = axis_probe(persona_map, persona_map.middle_layer if layer is None else layer).probe
    probes = () if axis is None else (axis,)
    wanted = named(plans)
    requests = [
        Request(name, conversation, sampling, plan=plan, probes=probes, seed=seed) for name, plan in wanted
    ]
    done = {completion.id: completion for completion in engine.run(requests)}
    answers: list[PlanAnswer] = []
    for name, plan in wanted:
        completion = done[name]
        if persona_map is None or axis is None:
            answers.append(PlanAnswer(name, plan, completion))
            continue
        as_generated = _mean(completion.projections.get(axis.name))
        as_read = as_generated if plan is None else _read_plain(engine, conversation, completion, axis)
        answers.append(
            PlanAnswer(
                name,
                plan,
                completion,
                float(persona_map.to_units(as_generated, axis.layer)),
                float(persona_map.to_units(as_read, axis.layer)),
                as_generated,
                as_read,
            )
        )
    return tuple(answers)


def _read_plain(
    engine: LocalEngine, conversation: Conversation, completion: Completion, axis: Probe
) -> float:
    """Return the mean projection of an answer when the model reads it without a plan."""
    if not completion.text:
        return math.nan
    reply = Message("assistant", completion.text, completion.reasoning)
    try:
        turns = engine.observe((*conversation, reply), probes=(axis,))
    except ChatError:
        # The template refuses the answer, such as one of white space alone.
        return math.nan
    return _mean(turns[-1].projections.get(axis.name))


def _mean(values: Any) -> float:
    return float(np.mean(values, dtype=float)) if values is not None and len(values) else math.nan
