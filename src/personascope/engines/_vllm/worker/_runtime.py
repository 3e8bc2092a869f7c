"""The plugin's state in a worker: the tokens of a step to edit and read, sums, and results.

The worker passes it the requests of every step (`Runtime.begin_step`). The instrumented layers call it
inside the forward pass (`Runtime.layer`). When a request ends, its results wait to be fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.engines._vllm.request._spec import parse_spec
from personascope.engines._vllm.worker._course import Course, acts_by_part
from personascope.engines._vllm.worker._courses import course_meta, course_of, follow, told_counts
from personascope.engines._vllm.worker._pending_results import PendingResults, Result, pack_results
from personascope.engines._vllm.worker._records import (
    Lookup,
    Projections,
    RequestRecord,
    SteadyStep,
    StepPart,
    Tokens,
)
from personascope.engines._vllm.worker._span_sums import Slots, SpanSums
from personascope.engines._vllm.worker._step_reads import StepReads
from personascope.errors import EngineError
from personascope.interventions import CapCounts, PackedCapCounters, PackedPlans, Plan, Segment, acting_spans


class Runtime:
    """The plugin's state in one worker.

    All methods that change tensors run in inference mode, as vLLM's forward passes do, because a tensor
    that was made in it cannot be changed outside.

    Attributes:
        instrumented: Layers that call the runtime in this worker.
        records: Records of the requests in flight, by the engine's request id; None for a plain one.
        done: Results that wait to be fetched.
        sums: Sums of the pooled spans.
        live: Whether the current step holds a request with a spec.
    """

    def __init__(
        self,
        *,
        d_model: int,
        tokens: int,
        device: torch.device,
        store: PlanStore,
        layers: Sequence[int],
        stages: int = 1,
        stage: int = 0,
        tokenizer: Callable[[], Any] | None = None,
    ) -> None:
        """Allocate counters; sums grow with the requests that pool.

        Args:
            d_model: Width of the residual stream.
            tokens: Maximum number of tokens of a step.
            device: Device of the residual stream.
            store: Store of plans and probes.
            layers: Layers that are instrumented in this worker.
            stages: Number of pipeline stages.
            stage: Index of this worker's stage.
            tokenizer: Function that returns the model's tokenizer, called for the first response whose parts
                are told apart.
        """
        self._tokenizer = tokenizer
        self.d_model, self.tokens, self.device, self.store = d_model, tokens, device, store
        self.instrumented = frozenset(layers)
        self.stages, self.stage = stages, stage
        self.records: dict[str, RequestRecord | None] = {}
        self.done = PendingResults()
        self.counters = PackedCapCounters(tokens, device)
        self.edits = PackedPlans(self.counters, device)
        self.sums = SpanSums(d_model, device)
        self.reads = StepReads(self.instrumented, self.sums, device)
        # Slot 0 belongs to no request.
        self.count_slots = Slots(1, self._more_counts)
        self._steady: SteadyStep | None = None
        self._counted: list[tuple[RequestRecord, int, int, int, int]] = []
        self._followed: list[RequestRecord] = []
        self._step_tokens = 0
        self.live = False

    # A step

    @torch.inference_mode()
    def begin_step(
        self,
        ids: Sequence[str],
        starts: np.ndarray,
        computed: np.ndarray,
        lookup: Lookup,
        tokens: Tokens | None = None,
    ) -> None:
        """Prepare for a forward pass with the given requests.

        Args:
            ids: Ids of the requests, in the order of the batch.
            starts: First row of each request, and the end, [requests + 1].
            computed: Position of each request's first token in the step, [requests].
            lookup: Function called for each new request.
            tokens: Function that returns the ids of the step's tokens; it is called if the parts of a
                response depend on them, and waits for the device if there is one.
        """
        self.end_step()
        if self._steady is not None and self._steady.goes_on(ids, starts, computed, tokens):
            self.live = True
            return
        self._settle()
        parts: list[StepPart] = []
        for number, name in enumerate(ids):
            if name not in self.records:
                self.records[name] = self._admit(name, *lookup(name))
            record = self.records[name]
            if record is not None:
                row = int(starts[number])
                parts.append((record, row, int(computed[number]), int(starts[number + 1]) - row))
        self.live = bool(parts)
        self._step_tokens = int(starts[len(ids)])
        if not self.live:
            self._clear()
            return
        self._followed = [record for record, *_ in parts if record.course is not None]
        follow(parts, tokens)
        self._route(parts)
        if self.stages > 1:
            self._counted = [(*part, part[0].seen) for part in parts if part[0].plan is not None]
        else:
            self._steady = SteadyStep.of(ids, starts, computed, parts)
        for record, _, start, count in parts:
            record.count(start, count)

    def _settle(self) -> None:
        """Count the tokens of steady steps, and forget the steady step."""
        steady, self._steady = self._steady, None
        if steady is not None:
            steady.settle()

    def _clear(self) -> None:
        self.edits.begin((), ())
        self.reads.clear()

    def _route(self, parts: list[StepPart]) -> None:
        """Determine the rows to edit, sum and project."""
        segments = [
            Segment(
                plan,
                record.parts,
                record.slot_of(run),
                run.begin,
                row + run.begin - start,
                run.end - run.begin,
                record.seen,
            )
            for record, row, start, tokens in parts
            if record.planned
            for run in record.runs(start, start + tokens)
            if (plan := run.here) is not None
        ]
        table, live = self.edits.table, dict[str, Plan]()
        if table is None or any(segment.plan.digest not in table.places for segment in segments):
            # It is made anew, and must not lack what another part or request needs next.
            live = {plan.digest: plan for record in self.records.values() if record for plan in record.plans}
        self.edits.begin(segments, list(live.values()))
        self.reads.route(parts)

    def layer(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Edit and read the residual stream after a block; called inside the forward pass."""
        if not self.live:
            return
        if hidden.ndim != 2 or hidden.shape[1] != self.d_model or len(hidden) < self._step_tokens:
            raise EngineError(
                f"layer {layer} handed on {tuple(hidden.shape)}, where {self._step_tokens} tokens of "
                f"{self.d_model} are meant",
                hint="run this architecture on the transformers engine",
            )
        self.reads.before(layer, hidden, residual)
        self.edits(layer, hidden, residual)
        self.reads.layer(layer, hidden, residual)

    @torch.inference_mode()
    def end_step(self) -> Projections:
        """Collect the results of the last forward pass, and return the new projections of each key."""
        if not self.live:
            return {}
        self._keep_hits()
        self.counters.finish()
        self.live = False
        return self.reads.finish(0 if self._steady is None else self._steady.owed)

    def take_over(self) -> list[str]:
        """Return the keys of the responses whose last token has passed, each once."""
        found: list[str] = []
        for record in self._followed:
            if record.course is not None and record.course.over and not record.course.told:
                record.course.told = True
                found.append(record.spec.key)
        return found

    def _keep_hits(self) -> None:
        """Store on which tokens a cap fired, to be merged with those of other stages (`read_results`)."""
        if not self._counted:
            return
        hit = self._hit_rows()
        for record, row, start, tokens, seen in self._counted:
            positions = np.flatnonzero(hit[row : row + tokens]) + start
            record.hit.update(positions[positions >= seen].tolist())
        self._counted = []

    def _hit_rows(self) -> np.ndarray:
        return self.counters.hit_rows()

    @torch.inference_mode()
    def idle(self) -> None:
        """Prepare for a forward pass without requests (a dummy or profiling run)."""
        self.end_step()
        self._settle()
        self._clear()

    # Requests

    def _admit(self, name: str, prompt: int, extra_args: Mapping[str, Any] | None) -> RequestRecord | None:
        spec = parse_spec(extra_args)
        if spec is None:
            return None
        spec = spec.of_sample(name)
        record = RequestRecord(
            spec=spec,
            parts=spec.token_spans(prompt),
            plan=None if spec.plan is None else self.store.plan(spec.plan),
            probes=None if spec.probes is None else self.store.probes(spec.probes),
            spans=spec.read(prompt),
        )
        record.course = self._course(record)
        record.counts = [0] * len(record.spans)
        record.rows = [[] for _ in record.spans]
        if spec.pool:
            record.slots = [self.sums.take() for _ in record.spans]
        if record.plan is not None or (record.course is not None and record.course.gate is not None):
            if record.plan is not None and record.course is None:
                record.acting = acting_spans(record.plan, record.parts)
            record.count_slot = self.count_slots.take()
            self._clear_counts(record.count_slot)
        if record.course is not None and record.course.gate is not None:
            record.gate_slot = self.count_slots.take()
            self._clear_counts(record.gate_slot)
        return record

    def _course(self, record: RequestRecord) -> Course | None:
        """Return the course of a response, if what is done to it or read of it depends on one."""
        spec = record.spec
        if spec.gate is None and spec.reply is None and not acts_by_part(record.plan):
            return None
        if spec.reply is not None and self._tokenizer is None:
            raise EngineError(
                "the parts of a response are to be told apart, and the worker has no tokenizer",
                hint="start vLLM with its tokenizer",
            )
        return course_of(record, self.store, None if spec.reply is None else self._tokenizer)

    def _more_counts(self, slots: Slots) -> None:
        slots.grow(1)
        if slots.end > self.counters.slots:
            self.counters.grow(2 * self.counters.slots)

    def _clear_counts(self, slot: int) -> None:
        self.counters.clear(slot)

    def _cap_counts(self, slot: int, tokens: int, plan: Plan) -> CapCounts:
        """Return the counts of a slot, for ``tokens`` tokens on which its plan acted."""
        del plan
        return self.counters.counts(slot, tokens)

    @torch.inference_mode()
    def finish(self, name: str) -> None:
        """End a request that has ended or was aborted: free its slots, and keep its results to be fetched."""
        record = self.records.pop(name, None)
        if record is None:
            return
        self.end_step()
        self._settle()
        if self.done.wanted(record.spec.key):
            self.done.keep(record.spec.key, self._result(record))
        self.sums.slots.free += record.slots
        self.count_slots.free += [slot for slot in (record.count_slot, record.gate_slot) if slot]

    def _result(self, record: RequestRecord) -> Result:
        meta: dict[str, Any] = {"counts": record.counts, "plan": record.spec.plan}
        arrays: dict[str, np.ndarray] = {}
        if record.slots:
            layers = self.reads.chosen(record.spec.layers)
            meta["layers"] = layers
            slots = torch.tensor(record.slots, device=self.device)
            # A pipeline stage may hold none of the requested layers.
            sums = [self.sums.pooled(layer, slots) for layer in layers]
            arrays["sums"] = (
                np.stack(sums, axis=1) if sums else np.zeros((len(slots), 0, self.d_model), np.float32)
            )
            if record.spec.norms:
                norms = [self.sums.norms(layer, slots) for layer in layers]
                arrays["norms"] = np.stack(norms, axis=1) if norms else np.zeros((len(slots), 0))
        if record.probes is not None:
            meta["probes"] = list(record.probes.names)
            meta["columns"] = [
                n for n, layer in enumerate(record.probes.layers) if layer in self.instrumented
            ]
            width = len(record.probes.names)
            for number, rows in enumerate(record.rows):
                kept = [row[:width] for row in rows]
                arrays[f"projections.{number}"] = np.array(kept, np.float32).reshape(len(rows), width)
        before, after = (record.acted, 0) if record.course is None else record.course.acted(record.seen)
        if record.plan is not None:
            meta["cap_counts"] = told_counts(self._cap_counts(record.count_slot, before, record.plan))
        if record.course is not None:
            meta |= course_meta(record)
            plan = record.course.gated_plan
            if plan is not None:
                meta["gate_counts"] = told_counts(self._cap_counts(record.gate_slot, after, plan))
        if self.stages > 1:
            meta["stage"] = self.stage
            arrays["hit"] = np.array(sorted(record.hit), np.int64)
        return meta, arrays

    @torch.inference_mode()
    def fetch(self, keys: Sequence[str]) -> bytes:
        """Return and forget the results of ended requests, as safetensors with JSON in the metadata.

        The engine learns of an end before the worker does, so a request that is still open is treated as
        ended.

        Raises:
            EngineError: If there is no such result.
        """
        self.end_step()
        names = self._names()
        results: dict[str, Result] = {}
        for key in keys:
            if key not in self.done and key in names:
                self.finish(names[key])
                # If the engine steps once more with it, it must not be taken for a new request.
                self.records[names[key]] = None
            results[key] = self.done.take(key)
        return pack_results(results)

    @torch.inference_mode()
    def drop(self, keys: Sequence[str]) -> None:
        """Forget the results of requests, whether or not they have ended or begun."""
        names = self._names()
        for key in keys:
            if key in names:
                self.finish(names[key])
                self.records[names[key]] = None
            elif key not in self.done:
                # It waits in the scheduler, and may reach this worker before its abort does.
                self.done.forget_unborn(key)
            self.done.forget(key)

    def _names(self) -> dict[str, str]:
        """Return the engine's request id of every key in flight."""
        return {record.spec.key: name for name, record in self.records.items() if record is not None}

    def stats(self) -> dict[str, int]:
        """Return the numbers of requests, slots, results and plans held, for leak tests and metrics."""
        return {
            "requests": sum(record is not None for record in self.records.values()),
            "plain": sum(record is None for record in self.records.values()),
            "slots": len(self.sums.slots),
            "free_slots": len(self.sums.slots.free),
            "cap_counts": len(self.count_slots),
            "free_cap_counts": len(self.count_slots.free),
            "results": len(self.done),
            "dropped": self.done.dropped,
            "plans": 0 if self.edits.table is None else len(self.edits.table.places),
        }
