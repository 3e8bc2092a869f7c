"""A worker's records of requests in flight, and of steps that continue the one before."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.request._spec import Spec
from personascope.engines._vllm.worker._course import Course, Run
from personascope.interventions import Plan, TokenSpans, overlap

Lookup = Callable[[str], tuple[int, Mapping[str, Any] | None]]
"""Function from an engine's request id to the length of its prompt and its ``extra_args``."""

StepPart = tuple["RequestRecord", int, int, int]
"""A request's part of a step: record, first row, position of that row's token, number of tokens."""

Tokens = Callable[[], np.ndarray]
"""Function that returns the ids of a step's tokens, in the order of the batch, on the host."""

Projections = dict[str, list[tuple[int, int, list[list[float]]]]]
"""Key of a request -> list of (span, index of its first new token, projections [tokens, probes])."""


@dataclass(slots=True, eq=False)
class RequestRecord:
    """A request in flight.

    Attributes:
        spec: Spec of the request.
        parts: Positions of prompt, response and turns in the sequence.
        plan: Plan of the request, or None.
        probes: Probes of the request, or None.
        spans: Positions to read, [start, stop) each.
        slots: Slot in which each span is summed, if it is pooled.
        count_slot: Slot of the plan's cap counts; 0 without a plan.
        seen: Position after the last counted token; tokens that pass again are not counted again.
        acting: Positions on which the plan acts, [start, stop) each.
        acted: Number of tokens on which the plan acted.
        counts: Number of tokens of each span that were read.
        rows: For each span, the projections of its tokens; those before the plan's operations last.
        hit: Positions on which a cap fired in this worker, kept only if other workers hold other layers.
        course: Course of the response, if what is done to its tokens or read of them depends on it.
        gate_slot: Slot of the counts of the tokens on which a gate acts; 0 without one.
    """

    spec: Spec
    parts: TokenSpans
    plan: Plan | None
    probes: ProbeSet | None
    spans: tuple[tuple[int, int], ...]
    slots: list[int] = field(default_factory=list[int])
    count_slot: int = 0
    seen: int = 0
    acting: tuple[tuple[int, int], ...] = ()
    acted: int = 0
    counts: list[int] = field(default_factory=list[int])
    rows: list[list[list[float]]] = field(default_factory=list[list[list[float]]])
    hit: set[int] = field(default_factory=set[int])
    course: Course | None = None
    gate_slot: int = 0

    @property
    def planned(self) -> bool:
        """Whether a plan acts, or may come to act."""
        return self.count_slot > 0

    @property
    def reads_before(self) -> bool:
        """Whether tokens are also projected before the plan's operations."""
        return self.spec.before and self.planned

    @property
    def plans(self) -> list[Plan]:
        """Plans that act on tokens of some part."""
        if self.course is not None:
            return self.course.variants
        return [] if self.plan is None else [self.plan]

    def runs(self, start: int, stop: int) -> Iterable[Run]:
        """Return the runs of the positions from start up to stop, by what is done to them."""
        return [Run(start, stop, self.plan)] if self.course is None else self.course.runs(start, stop)

    def slot_of(self, run: Run) -> int:
        """Return the slot in which the cap counts of a run's tokens go; 0 for none."""
        return 0 if run.over else self.gate_slot if run.gated else self.count_slot

    def reads(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the positions from low up to high that are read, as ranges."""
        return [(low, high)] if self.course is None else self.course.reads(low, high)

    def count(self, start: int, tokens: int) -> None:
        """Count the tokens of a step that have not been counted before."""
        low, high = max(self.seen, start), start + tokens
        if low >= high:
            return
        if self.course is not None:
            if self.course.first is None:
                self.course.first = low
        elif self.plan is not None:
            self.acted += overlap(self.acting, low, high)
        for number, (first, stop) in enumerate(self.spans):
            ranges = self.reads(max(first, low), min(stop, high)) if max(first, low) < min(stop, high) else ()
            self.counts[number] += sum(end - begin for begin, end in ranges)
        self.seen = high

    def take(self, number: int, position: int, rows: list[list[float]], found: Projections) -> None:
        """Take up the projections of consecutive tokens of a span, which a gate hears too.

        Args:
            number: Index of the span.
            position: Position of the first token.
            rows: Projections, [tokens, probes].
            found: New projections by key, to which they are added.
        """
        found.setdefault(self.spec.key, []).append((number, len(self.rows[number]), rows))
        self.rows[number] += rows
        if self.course is not None and number == 0:
            for place, row in enumerate(rows, position):
                self.course.hear(place, row)

    def steps_to_boundary(self, start: int) -> float:
        """Return for how many positions after ``start`` no span begins or ends, and no turn begins."""
        ends = itertools.chain(*self.spans, self.parts.turns)
        return min((end for end in ends if end > start), default=math.inf) - 1 - start


@dataclass(slots=True, eq=False)
class SteadyStep:
    """A step with one response token for each record, whose routing also holds for steps that continue it.

    Attributes:
        ids: Ids of the requests, in the order of the batch.
        starts: First row of each request, and the end, [requests + 1].
        computed: Position of each request's first token, [requests].
        records: Records of the requests with a spec.
        left: Number of further steps in which no span or turn begins or ends.
        owed: Number of steps that continued it and whose tokens are not counted yet.
        followed: Records with a course, each with its row and the state of its token.
    """

    ids: list[str]
    starts: np.ndarray
    computed: np.ndarray
    records: list[RequestRecord]
    left: float
    owed: int = 0
    followed: list[tuple[RequestRecord, int, tuple[str, bool, bool]]] = field(
        default_factory=list[tuple[RequestRecord, int, tuple[str, bool, bool]]]
    )

    @classmethod
    def of(
        cls, ids: Sequence[str], starts: np.ndarray, computed: np.ndarray, parts: Sequence[StepPart]
    ) -> SteadyStep | None:
        """Return a steady step if every request with a spec decodes and no token passes again; else None."""
        if not all(
            tokens == 1 and start >= record.parts.prompt and start == record.seen
            for record, _, start, tokens in parts
        ):
            return None
        left = min(record.steps_to_boundary(start) for record, _, start, _ in parts)
        records = [record for record, *_ in parts]
        followed = [
            (record, row, record.course.state(start))
            for record, row, start, _ in parts
            if record.course is not None
        ]
        # The arrays are copied because vLLM writes the next step into them.
        return cls(
            list(ids),
            starts[: len(ids) + 1].copy(),
            computed[: len(ids)].copy(),
            records,
            left,
            followed=followed,
        )

    def goes_on(
        self, ids: Sequence[str], starts: np.ndarray, computed: np.ndarray, tokens: Tokens | None = None
    ) -> bool:
        """Return whether a step continues this one, and count it as owed if so.

        The tokens of records with a course are fed to it. If one begins another part, or a gate acts on it,
        the step does not continue this one.
        """
        goes_on = (
            self.owed < self.left
            and ids == self.ids
            and np.array_equal(starts[: len(ids) + 1], self.starts)
            and np.array_equal(computed[: len(ids)], self.computed + (self.owed + 1))
            and self._same_states(tokens)
        )
        self.owed += goes_on
        return goes_on

    def _same_states(self, tokens: Tokens | None) -> bool:
        if not self.followed:
            return True
        ids = None if tokens is None else tokens()
        same = True
        for record, row, state in self.followed:
            assert record.course is not None
            position = record.seen + self.owed
            if ids is not None:
                record.course.feed(position, ids[row : row + 1].tolist())
            same &= record.course.state(position) == state
        return same

    def settle(self) -> None:
        """Count the tokens of the owed steps."""
        for record in self.records if self.owed else ():
            record.count(record.seen, self.owed)
