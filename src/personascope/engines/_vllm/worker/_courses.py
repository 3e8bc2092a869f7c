"""Courses of responses: made from a request's spec, fed with the tokens of a step, and told at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.engines._vllm.worker._course import END, Course
from personascope.engines._vllm.worker._records import RequestRecord, StepPart, Tokens
from personascope.errors import EngineError
from personascope.interventions import CapCounts


def follow(parts: Sequence[StepPart], tokens: Tokens | None) -> None:
    """Feed the tokens of a step to the courses of their responses."""
    followed = [part for part in parts if part[0].course is not None and part[0].course.reader is not None]
    if not followed:
        return
    if tokens is None:
        raise EngineError(
            "the parts of a response are to be told apart, and the step's tokens are not known",
            hint="report this with the vLLM version; the response is not used",
        )
    ids = tokens()
    for record, row, start, count in followed:
        assert record.course is not None
        begin = max(start, record.parts.prompt)
        if begin < start + count:
            record.course.feed(begin, ids[row + begin - start : row + count].tolist())


def course_of(record: RequestRecord, store: PlanStore, tokenizer: Callable[[], Any] | None) -> Course:
    """Return the course of a record whose spec has a gate, a reply or a plan on parts."""
    spec = record.spec
    gate, alarm, probe = spec.gate, None, 0
    if gate is not None and gate.alarm is not None:
        assert record.probes is not None
        alarm, probe = gate.alarm.start(), record.probes.names.index(gate.probe)
    starts = [*spec.parts, (END, "")]
    return Course(
        record.parts,
        record.plan,
        None if gate is None or gate.plan is None else store.plan(gate.plan),
        None if spec.reply is None or tokenizer is None else spec.reply.format(tokenizer()).reader(),
        spec.reply,
        spec.select,
        alarm,
        probe,
        "response" if gate is None else gate.tokens,
        # The last part goes on to the end, and needs one entry.
        [
            part
            for (start, part), (stop, _) in pairwise(starts)
            for _ in range(max(start, record.parts.prompt), min(stop, start + 1 if stop == END else stop))
        ],
        gate_at=END if gate is None or gate.at is None else gate.at,
    )


def course_meta(record: RequestRecord) -> dict[str, Any]:
    course = record.course
    assert course is not None
    return {
        "read": [
            course.reads(max(low, course.first or 0), min(high, record.seen)) for low, high in record.spans
        ],
        "gate_at": None if course.gate_at >= END else course.gate_at,
        "prompt": course.extent.prompt,
        "stopped": course.end if course.stopped else None,
    }


def told_counts(counts: CapCounts) -> dict[str, Any]:
    """Return counts as JSON values."""
    return {
        "tokens": counts.tokens,
        "capped": counts.capped,
        "fired": {str(layer): count for layer, count in counts.fired.items()},
        "moved": {str(layer): length for layer, length in counts.moved.items()},
        "greatest": counts.greatest,
    }
