"""The runtime for CUDA graphs: fixed tables and buffers, masks as data, one kernel per layer.

A recorded graph replays the kernels on the current content of the buffers. A step therefore only fills the
buffers, and every instrumented layer runs its kernel at every step, also without any request for the plugin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.worker._records import Projections, RequestRecord, StepPart
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.engines._vllm.worker._span_sums import Slots, SpanSums
from personascope.engines._vllm.worker._step_reads import read_rows
from personascope.engines._vllm.worker._triton import LayerBuffers, StepBuffers, run_layer
from personascope.errors import EngineError
from personascope.interventions import REPLY_PARTS, Ablate, Cap, CapCounts, Plan, Steer


class _Table:
    """Allocation of a table's rows by digest; row 0 is never allocated."""

    def __init__(self, rows: int, what: str) -> None:
        self.rows: dict[str, int] = {}
        self.users: dict[str, int] = {}
        self.free = list(range(rows, 0, -1))
        self.what = what

    def take(self, digest: str) -> tuple[int, bool]:
        """Take the row of a digest; return it, and whether it must be filled."""
        self.users[digest] = self.users.get(digest, 0) + 1
        if digest in self.rows:
            # The most recently used row is reused last.
            self.rows[digest] = self.rows.pop(digest)
            return self.rows[digest], False
        if not self.free:
            idle = next((known for known in self.rows if not self.users.get(known)), None)
            if idle is None:
                raise EngineError(
                    f"more than {len(self.rows)} {self.what} are under way",
                    hint=f"start with a larger personascope.limits.{self.what.replace(' ', '_')}",
                )
            self.free.append(self.rows.pop(idle))
        self.rows[digest] = self.free.pop()
        return self.rows[digest], True

    def give_back(self, digest: str) -> None:
        """Release a digest's row for one request."""
        self.users[digest] -= 1
        if not self.users[digest]:
            del self.users[digest]


class StaticSums(SpanSums):
    """Sums in the fixed buffers of the layers, to which the kernel adds."""

    def __init__(
        self, buffers: Mapping[int, LayerBuffers], count: int, d_model: int, device: torch.device
    ) -> None:
        """Use the slots of fixed buffers, from 1 on."""
        super().__init__(d_model, device)
        self.buffers = buffers
        self.slots = Slots(1, _no_more_sums, count=count)

    def take(self) -> int:
        """Take a free slot and set its sums to zero."""
        slot = self.slots.take()
        for buffers in self.buffers.values():
            buffers.sums[slot] = 0
            buffers.norms[slot] = 0
        return slot

    def pooled(self, layer: int, slots: Tensor) -> np.ndarray:
        """Return a layer's sums, [slots, d] float32."""
        return self.buffers[layer].sums[slots].cpu().numpy()

    def norms(self, layer: int, slots: Tensor) -> np.ndarray:
        """Return a layer's sums of norms, [slots]."""
        return self.buffers[layer].norms[slots].cpu().numpy()


def _no_more_sums(slots: Slots) -> None:
    raise EngineError(
        f"more than {len(slots)} spans are pooled at once",
        hint="start with a larger personascope.limits.slots",
    )


class StaticRuntime(Runtime):
    """A `Runtime` that runs one kernel per layer in the forward pass."""

    def __init__(self, *, limits: Limits, **common: Any) -> None:
        """Allocate all tables and buffers."""
        super().__init__(**common)
        self.limits = limits
        rows, ops = limits.plans + 1, limits.ops
        self.plans = _Table(limits.plans, "plans")
        self.probe_sets = _Table(limits.probe_sets, "probe sets")
        # Slot 0 is for tokens without a slot.
        size = limits.slots + 1

        def made(*shape: int, dtype: torch.dtype = torch.float32, value: float = 0) -> Tensor:
            return torch.full(shape, value, dtype=dtype, device=self.device)

        self.layers = {
            layer: LayerBuffers(
                direction=made(rows, ops, self.d_model),
                shift=made(rows, ops),
                low=made(rows, ops, value=-torch.inf),
                high=made(rows, ops, value=torch.inf),
                cap=made(rows, ops, dtype=torch.int32),
                bit=made(rows, ops, dtype=torch.int32, value=-1),
                fired=made(size, dtype=torch.int32),
                moved=made(size),
                sums=made(size, self.d_model),
                norms=made(size),
                vectors=made(limits.probe_sets + 1, limits.probes, self.d_model),
                columns=made(limits.probe_sets + 1, limits.probes, dtype=torch.int32, value=-1),
            )
            for layer in sorted(self.instrumented)
        }
        self.step = StepBuffers(*(made(self.tokens, dtype=torch.int32) for _ in range(5)))
        self.greatest = made(size)
        self.any_fired = made(self.tokens, dtype=torch.int32)
        self.capped = made(size, dtype=torch.int64)
        self.projected = made(self.tokens, limits.columns)
        self.sums = StaticSums(self.layers, limits.slots, self.d_model, self.device)
        self.count_slots = Slots(1, self._more_counts, count=limits.slots)
        self._dirty = False
        self._projected: list[tuple[RequestRecord, int, int, int, int]] = []

    def layer(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Run the layer's kernel, which becomes part of a graph that is being recorded."""
        run_layer(
            hidden, residual, self.step, self.layers[layer], self.greatest, self.any_fired, self.projected
        )

    def _clear(self) -> None:
        if self._dirty:
            for buffer in (self.step.place, self.step.count_slot, self.step.pool, self.step.probes):
                buffer.zero_()
            self._dirty = False
        self._projected = []

    def _route(self, parts: list[StepPart]) -> None:
        """Fill the buffers of the step."""
        count = max(row + tokens for _, row, _, tokens in parts)
        place, active, count_slot, pool, probes = np.zeros((5, count), np.int32)
        self._projected = []
        for record, row, start, tokens in parts:
            for run in record.runs(start, start + tokens) if record.planned else ():
                if run.plan is None:
                    continue
                here = slice(row + run.begin - start, row + run.end - start)
                positions = np.arange(run.begin, run.end)
                place[here] = self.plans.rows[run.plan.digest]
                count_slot[here] = np.where(positions >= record.seen, record.slot_of(run), 0)
                for bit, where in enumerate(parts_of(run.plan)):
                    if where in REPLY_PARTS:
                        active[here] |= (where == run.part) << bit
                        continue
                    low, high = record.parts.bounds(where)
                    active[here] |= ((positions >= low) & (positions < high)).astype(np.int32) << bit
        for record, number, position, begin, end in read_rows(parts):
            if record.spec.pool:
                pool[begin:end] = record.slots[number]
            if record.probes is not None:
                probes[begin:end] = self.probe_sets.rows[record.probes.digest]
                self._projected.append((record, number, position, begin, end))
        for buffer, values in zip(
            (self.step.place, self.step.active, self.step.count_slot, self.step.pool, self.step.probes),
            (place, active, count_slot, pool, probes),
            strict=True,
        ):
            self._fill(buffer, values)
        self._dirty = True

    def _fill(self, buffer: Tensor, values: np.ndarray) -> None:
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            # The allocator of pinned memory keeps it until the copy has been made.
            tensor = tensor.pin_memory()
        buffer[: len(values)].copy_(tensor, non_blocking=True)
        # Rows after the step's tokens are padding, which graphs process too.
        buffer[len(values) :].zero_()

    @torch.inference_mode()
    def end_step(self) -> Projections:
        """Collect the results of the last forward pass, and return the new projections of each key."""
        if not self.live:
            return {}
        self.live = False
        self._keep_hits()
        self.capped.index_add_(0, self.step.count_slot.long(), self.any_fired.long())
        self.capped[0] = 0
        self.any_fired.zero_()
        found: Projections = {}
        if self._projected:
            host = self.projected.cpu()
            moved = 0 if self._steady is None else self._steady.owed
            for record, number, position, begin, end in self._projected:
                assert record.probes is not None
                part = host[begin:end, : len(record.probes.names)].tolist()
                record.take(number, position + moved, part, found)
        return found

    def _hit_rows(self) -> np.ndarray:
        return self.any_fired.cpu().numpy() != 0

    def _admit(self, name: str, prompt: int, extra_args: Mapping[str, Any] | None) -> RequestRecord | None:
        record = super()._admit(name, prompt, extra_args)
        if record is None:
            return None
        for plan in _plans_of(record):
            row, new = self.plans.take(plan.digest)
            if new:
                self._write_plan(row, plan)
        if record.probes is not None:
            row, new = self.probe_sets.take(record.probes.digest)
            if new:
                self._write_probes(row, record.probes)
        return record

    def _more_counts(self, slots: Slots) -> None:
        raise EngineError(
            f"more than {len(slots)} requests with a plan are under way",
            hint="start with a larger personascope.limits.slots",
        )

    def _clear_counts(self, slot: int) -> None:
        for buffers in self.layers.values():
            buffers.fired[slot] = 0
            buffers.moved[slot] = 0
        self.greatest[slot] = 0
        self.capped[slot] = 0

    def _cap_counts(self, slot: int, tokens: int, plan: Plan) -> CapCounts:
        """Return the counts of a slot, for ``tokens`` tokens on which its plan acted."""
        capped = [layer for layer in plan.layers if layer in self.layers]
        return CapCounts(
            tokens,
            int(self.capped[slot]),
            {layer: int(self.layers[layer].fired[slot]) for layer in capped},
            {layer: float(self.layers[layer].moved[slot]) for layer in capped},
            float(self.greatest[slot]),
        )

    @torch.inference_mode()
    def finish(self, name: str) -> None:
        """End a request, and release the rows of its plan and probes."""
        record = self.records.get(name)
        super().finish(name)
        if record is not None:
            for plan in _plans_of(record):
                self.plans.give_back(plan.digest)
            if record.probes is not None:
                self.probe_sets.give_back(record.probes.digest)

    def _write_plan(self, row: int, plan: Plan) -> None:
        parts = parts_of(plan)
        for layer, buffers in self.layers.items():
            buffers.bit[row] = -1
            ops = [op for op in plan.ops if op.layer == layer]
            for number, op in enumerate(ops):
                buffers.direction[row, number] = torch.tensor(op.direction, device=self.device)
                shift, low, high = 0.0, -torch.inf, torch.inf
                if isinstance(op, Steer):
                    shift = op.amount
                elif isinstance(op, Ablate):
                    low = high = op.to
                else:
                    low = low if op.floor is None else op.floor
                    high = high if op.ceiling is None else op.ceiling
                buffers.shift[row, number] = shift
                buffers.low[row, number] = low
                buffers.high[row, number] = high
                buffers.cap[row, number] = isinstance(op, Cap)
                buffers.bit[row, number] = parts.index(op.tokens)

    def _write_probes(self, row: int, probes: ProbeSet) -> None:
        for layer, buffers in self.layers.items():
            buffers.columns[row] = -1
            columns = [number for number, at in enumerate(probes.layers) if at == layer]
            for number, column in enumerate(columns):
                buffers.vectors[row, number] = torch.tensor(probes.directions[column], device=self.device)
                buffers.columns[row, number] = column


def _plans_of(record: RequestRecord) -> list[Plan]:
    if record.course is not None:
        return record.course.plans
    return [] if record.plan is None else [record.plan]


def parts_of(plan: Plan) -> Sequence[str]:
    """Return the distinct parts of the sequence that a plan's operations act on, in a fixed order."""
    return tuple(dict.fromkeys(op.tokens for op in plan.ops))
