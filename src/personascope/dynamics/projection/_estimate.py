"""Estimate of a projection, from some of its conversations; nothing is written."""

from __future__ import annotations

from typing import Any

from personascope.dynamics.projection._run import Projector
from personascope.engines import Engine
from personascope.interop import Transcript, TranscriptSource
from personascope.runs import PROBE, Meter, WorkStep
from personascope.space import PersonaMap


def estimate_projection(
    engine: Engine,
    persona_map: PersonaMap,
    source: TranscriptSource,
    *,
    limit: int | None = None,
    probe: int = PROBE,
    **options: Any,
) -> WorkStep:
    """Estimate the projection of a source: all of it is read, and some conversations are projected.

    Args:
        engine: Engine of the model.
        persona_map: Map of the model.
        source: Conversations.
        limit: Maximum number of conversations; None for all.
        probe: Number of conversations to project.
        options: Further keyword arguments of `Projector`.

    Raises:
        UsageError: As in `Projector`.
        EngineError: If the engine fails on the probe.
    """
    meter = Meter(engine)
    projector = Projector(meter, persona_map, **options)
    lengths = [
        sum(len(message.content) for message in entry.conversation)
        for entry in source.read(limit=limit)
        if isinstance(entry, Transcript)
    ]
    every = max(1, len(lengths) // probe)
    number = chars = 0
    for entry in source.read(limit=limit):
        if not isinstance(entry, Transcript):
            continue
        if number % every == 0:
            before = meter.passes
            projector.project(entry)
            chars += lengths[number] * (meter.passes - before)
        number += 1
        if meter.passes >= probe:
            break
    if not meter.passes:
        return WorkStep("conversations")
    # The time follows the length of conversations more than their number.
    step = meter.step("conversations", scale=sum(lengths) / max(chars, 1))
    return WorkStep(step.name, 0, len(lengths), step.prompt_tokens, 0, step.seconds)
