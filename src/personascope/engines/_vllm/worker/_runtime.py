"""What the plugin keeps in a worker: which tokens of a step are edited and read, sums, and results.

The worker tells it the requests of every step (`Runtime.begin_step`); the armed layers call it from
inside the forward pass (`Runtime.layer`); when a request ends, its results wait to be fetched.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._spec import Spec, parse_spec
from personascope.errors import EngineError
from personascope.interventions import (
    CapCounts,
    FlatCounters,
    PackedPlans,
    Plan,
    Segment,
    TokenSpans,
    acting_spans,
    add_rows,
    overlap,
)

KEEP_RESULTS = 8192
"""Results that wait to be fetched; the oldest are dropped, and fetching those is an error."""

Lookup = Callable[[str], tuple[int, Mapping[str, Any] | None]]
"""From an engine's request id to the length of its prompt and its extra_args."""


@dataclass(slots=True, eq=False)
class _Record:
    """A request that is under way.

    Attributes:
        spec: What it asks.
        extent: Where the parts of its sequence lie.
        plan: Its plan, or None.
        probes: Its probes, or None.
        spans: Positions that are read.
        slots: Where each span is summed, if it is pooled.
        tally: Where its plan's counts are kept; 0 without a plan.
        seen: Position after the last token that was counted; what passes again is not counted again.
        acting: Positions on which its plan acts.
        acted: Tokens on which it did.
        counts: Tokens of each span that were read.
        rows: For each span, the projections of its tokens.
        hit: Positions on which a cap fired here, where other workers hold other layers.
    """

    spec: Spec
    extent: TokenSpans
    plan: Plan | None
    probes: ProbeSet | None
    spans: tuple[tuple[int, int], ...]
    slots: list[int] = field(default_factory=list[int])
    tally: int = 0
    seen: int = 0
    acting: tuple[tuple[int, int], ...] = ()
    acted: int = 0
    counts: list[int] = field(default_factory=list[int])
    rows: list[list[list[float]]] = field(default_factory=list[list[list[float]]])
    hit: set[int] = field(default_factory=set[int])


@dataclass(slots=True, eq=False)
class _Read:
    """Tokens of a step that are pooled or projected, with the rows and slots on the host too."""

    rows: Tensor
    numbers: np.ndarray
    slots: Tensor
    slot_numbers: np.ndarray
    probes: ProbeSet | None = None
    home: list[tuple[_Record, int, int]] = field(default_factory=list[tuple["_Record", int, int]])


@dataclass(slots=True, eq=False)
class _Steady:
    """A step of one response token for each record, whose routing holds for the steps that go on from it.

    Attributes:
        ids: The requests.
        starts: First row of each, and the end.
        computed: Position of each request's first token.
        records: Those that ask for something.
        room: For how many steps more no span begins or ends.
        owed: Steps that went on from it, and whose tokens are not counted yet.
    """

    ids: list[str]
    starts: np.ndarray
    computed: np.ndarray
    records: list[_Record]
    room: float
    owed: int = 0

    def goes_on(self, ids: Sequence[str], starts: np.ndarray, computed: np.ndarray) -> bool:
        """Return whether a step is the next one, and take it in if so."""
        goes_on = (
            self.owed < self.room
            and ids == self.ids
            and np.array_equal(starts[: len(ids) + 1], self.starts)
            and np.array_equal(computed[: len(ids)], self.computed + (self.owed + 1))
        )
        self.owed += goes_on
        return goes_on


def _room(record: _Record, start: int) -> float:
    """Return for how many positions after one no span of a record begins or ends, nor a turn of a plan."""
    ends = itertools.chain(*record.spans, record.extent.turns)
    return min((end for end in ends if end > start), default=math.inf) - 1 - start


class Runtime:
    """The plugin's state in one worker.

    All that changes tensors runs in inference mode, as vLLM's forward passes do: a tensor that was made
    there cannot be changed elsewhere.

    Args:
        d_model: Width of the residual stream.
        tokens: Tokens of a step at most.
        device: Where it lives.
        spool: Plans and probes.
        layers: Layers that are armed in this worker.
        stages: Stages of the pipeline, if its workers hold different layers.
        stage: Which of them this worker is.
    """

    def __init__(
        self,
        *,
        d_model: int,
        tokens: int,
        device: torch.device,
        spool: PlanStore,
        layers: Sequence[int],
        stages: int = 1,
        stage: int = 0,
    ) -> None:
        """Allocate counters; sums grow with the requests that pool."""
        self.d_model, self.tokens, self.device, self.spool = d_model, tokens, device, spool
        self.armed = frozenset(layers)
        self.stages, self.stage = stages, stage
        self.records: dict[str, _Record | None] = {}
        self.done: OrderedDict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = OrderedDict()
        self.dropped = 0
        self._unwanted: OrderedDict[str, None] = OrderedDict()
        self.counters = FlatCounters(tokens, device)
        self.edits = PackedPlans(self.counters, device)
        self._sums: dict[int, Tensor] = {}
        self._norms: dict[int, Tensor] = {}
        self._slots = 0
        self._free: list[int] = []
        self._free_tallies: list[int] = []
        self._tallies = 1
        self._probe_vectors: OrderedDict[tuple[str, int], tuple[Tensor, Tensor]] = OrderedDict()
        self._steady: _Steady | None = None
        self._parts: list[tuple[_Record, int, int, int, int]] = []
        self._pools: dict[int, list[_Read]] = {}
        self._projects: dict[int, list[_Read]] = {}
        self._norm_reads: _Read | None = None
        self._projected: list[tuple[_Read, Tensor]] = []
        self._open: dict[int, Tensor] = {}
        self._step_tokens = 0
        self.live = False

    # A step

    @torch.inference_mode()
    def begin_step(
        self, ids: Sequence[str], starts: np.ndarray, computed: np.ndarray, lookup: Lookup
    ) -> None:
        """Take in which tokens the next forward pass holds.

        Args:
            ids: The requests, in the order of the batch.
            starts: First row of each request, and the end, [requests + 1].
            computed: Position of each request's first token in the step, [requests].
            lookup: For a request that is new.
        """
        self.end_step()
        if self._steady is not None and self._steady.goes_on(ids, starts, computed):
            self.live = True
            return
        self._settle()
        parts: list[tuple[_Record, int, int, int]] = []
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
        self._route(parts)
        if self.stages > 1:
            self._parts = [(*part, part[0].seen) for part in parts if part[0].plan is not None]
        elif all(
            tokens == 1 and start >= record.extent.prompt and start == record.seen
            for record, _, start, tokens in parts
        ):
            self._steady = _Steady(
                list(ids),
                starts[: len(ids) + 1].copy(),
                computed[: len(ids)].copy(),
                [record for record, *_ in parts],
                min(_room(record, start) for record, _, start, _ in parts),
            )
        for record, _, start, tokens in parts:
            self._count(record, start, tokens)

    def _settle(self) -> None:
        """Count the tokens of steady steps; the next step is worked out anew."""
        steady, self._steady = self._steady, None
        if steady is not None and steady.owed:
            for record in steady.records:
                self._count(record, record.seen, steady.owed)

    def _count(self, record: _Record, start: int, tokens: int) -> None:
        low, high = max(record.seen, start), start + tokens
        if low >= high:
            return
        if record.plan is not None:
            record.acted += overlap(record.acting, low, high)
        for number, (first, stop) in enumerate(record.spans):
            record.counts[number] += max(0, min(stop, high) - max(first, low))
        record.seen = high

    def _clear(self) -> None:
        self.edits.begin((), ())
        self._pools, self._projects = {}, {}
        self._norm_reads = None

    def _route(self, parts: list[tuple[_Record, int, int, int]]) -> None:
        """Work out the rows that are edited, summed and projected."""
        segments = [
            Segment(record.plan, record.extent, record.tally, start, row, tokens, record.seen)
            for record, row, start, tokens in parts
            if record.plan is not None
        ]
        live = [record.plan for record in self.records.values() if record is not None and record.plan]
        self.edits.begin(segments, live)
        pooled: dict[tuple[int, ...] | None, list[tuple[int, int, int]]] = {}
        normed: list[tuple[int, int, int]] = []
        probed: dict[str, list[tuple[_Record, int, int, int]]] = {}
        for record, row, start, tokens in parts:
            for number, (first, stop) in enumerate(record.spans):
                low = max(first, start, record.seen)
                high = min(stop, start + tokens)
                if low >= high:
                    continue
                where = (row + low - start, row + high - start)
                if record.spec.pool:
                    layers = None if record.spec.layers is None else tuple(sorted(set(record.spec.layers)))
                    pooled.setdefault(layers, []).append((*where, record.slots[number]))
                    if record.spec.norms:
                        normed.append((*where, record.slots[number]))
                if record.probes is not None:
                    probed.setdefault(record.probes.digest, []).append((record, number, *where))
        self._pools = self._pool_reads(pooled)
        self._norm_reads = _Read(*self._index(normed)) if normed else None
        self._projects = {}
        for found in probed.values():
            probes = found[0][0].probes
            assert probes is not None
            read = _Read(
                *self._index([(low, high, 0) for _, _, low, high in found]),
                probes=probes,
                home=[(record, number, high - low) for record, number, low, high in found],
            )
            for layer in sorted(set(probes.layers) & self.armed):
                self._projects.setdefault(layer, []).append(read)

    def _pool_reads(
        self, pooled: Mapping[tuple[int, ...] | None, list[tuple[int, int, int]]]
    ) -> dict[int, list[_Read]]:
        reads: dict[int, list[_Read]] = {}
        for layers, ranges in pooled.items():
            read = _Read(*self._index(ranges))
            for layer in self._layers_of(layers):
                reads.setdefault(layer, []).append(read)
        return reads

    def _layers_of(self, layers: tuple[int, ...] | None) -> list[int]:
        return sorted(self.armed if layers is None else self.armed & set(layers))

    def _index(self, ranges: list[tuple[int, int, int]]) -> tuple[Tensor, np.ndarray, Tensor, np.ndarray]:
        """Return the rows of ranges (first, end, slot) and their slots, for the device and for the host."""
        rows = np.concatenate([np.arange(low, high) for low, high, _ in ranges])
        slots = np.repeat([slot for _, _, slot in ranges], [high - low for low, high, _ in ranges])
        device = self.device
        return torch.from_numpy(rows).to(device), rows, torch.from_numpy(slots).to(device), slots

    def layer(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Edit and read the residual stream after a block; called from inside the forward pass."""
        if not self.live:
            return
        if hidden.ndim != 2 or hidden.shape[1] != self.d_model or len(hidden) < self._step_tokens:
            raise EngineError(
                f"layer {layer} handed on {tuple(hidden.shape)}, where {self._step_tokens} tokens of "
                f"{self.d_model} are meant",
                hint="run this architecture on the transformers engine",
            )
        self.edits(layer, hidden, residual)
        for read in self._pools.get(layer, ()):
            sums = self._sum(layer)
            if not add_rows(hidden, residual, read.numbers, sums, read.slot_numbers):
                sums.index_add_(0, read.slots, _take(hidden, residual, read.rows).float())
        if self._norm_reads is not None:
            self._add_norms(layer, hidden, residual)
        for read in self._projects.get(layer, ()):
            assert read.probes is not None
            columns, vectors = self._vectors(read.probes, layer)
            into = self._open.get(id(read))
            if into is None:
                into = torch.empty(len(read.numbers), len(read.probes.names), device=self.device)
                self._open[id(read)] = into
                self._projected.append((read, into))
            into[:, columns] = _take(hidden, residual, read.rows).float() @ vectors

    def _add_norms(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        read = self._norm_reads
        assert read is not None
        norms = _take(hidden, residual, read.rows).float().norm(dim=-1)
        self._norm(layer).index_add_(0, read.slots, norms.double())

    def _sum(self, layer: int) -> Tensor:
        if layer not in self._sums or len(self._sums[layer]) < self._slots:
            self._sums[layer] = _grown(
                self._sums.get(layer), (self._slots, self.d_model), self.device, torch.float32
            )
        return self._sums[layer]

    def _norm(self, layer: int) -> Tensor:
        if layer not in self._norms or len(self._norms[layer]) < self._slots:
            self._norms[layer] = _grown(self._norms.get(layer), (self._slots,), self.device, torch.float64)
        return self._norms[layer]

    def _vectors(self, probes: ProbeSet, layer: int) -> tuple[Tensor, Tensor]:
        key = (probes.digest, layer)
        if key not in self._probe_vectors:
            columns = [number for number, at in enumerate(probes.layers) if at == layer]
            vectors = torch.from_numpy(np.ascontiguousarray(probes.directions[columns].T))
            self._probe_vectors[key] = torch.tensor(columns, device=self.device), vectors.to(self.device)
            while len(self._probe_vectors) > 4096:
                self._probe_vectors.popitem(last=False)
        self._probe_vectors.move_to_end(key)
        return self._probe_vectors[key]

    @torch.inference_mode()
    def end_step(self) -> dict[str, list[tuple[int, int, list[list[float]]]]]:
        """Take in what the last forward pass left; return the new projections of each key.

        Returns:
            key -> (span, first token of it that is new, projections [tokens, probes]).
        """
        if not self.live:
            return {}
        self._keep_hits()
        self.counters.finish()
        found: dict[str, list[tuple[int, int, list[list[float]]]]] = {}
        for read, values in self._projected:
            rows = values.tolist()
            for record, number, tokens in read.home:
                part, rows = rows[:tokens], rows[tokens:]
                found.setdefault(record.spec.key, []).append((number, len(record.rows[number]), part))
                record.rows[number] += part
        self._projected, self._open = [], {}
        self.live = False
        return found

    def _keep_hits(self) -> None:
        """Remember on which tokens a cap fired, where the other stages' count too; see `read_results`."""
        if not self._parts:
            return
        hit = self._hit_rows()
        for record, row, start, tokens, seen in self._parts:
            positions = np.flatnonzero(hit[row : row + tokens]) + start
            record.hit.update(positions[positions >= seen].tolist())
        self._parts = []

    def _hit_rows(self) -> np.ndarray:
        return self.counters.hit_rows()

    @torch.inference_mode()
    def idle(self) -> None:
        """Take in that the next forward pass is none of a request (a dummy or profiling run)."""
        self.end_step()
        self._settle()
        self._clear()

    # Requests

    def _admit(self, name: str, prompt: int, extra_args: Mapping[str, Any] | None) -> _Record | None:
        spec = parse_spec(extra_args)
        if spec is None:
            return None
        spec = spec.of_sample(name)
        record = _Record(
            spec=spec,
            extent=spec.extent(prompt),
            plan=None if spec.plan is None else self.spool.plan(spec.plan),
            probes=None if spec.probes is None else self.spool.probes(spec.probes),
            spans=spec.read(prompt),
        )
        record.counts = [0] * len(record.spans)
        record.rows = [[] for _ in record.spans]
        if spec.pool:
            record.slots = [self._slot() for _ in record.spans]
        if record.plan is not None:
            record.acting = acting_spans(record.plan, record.extent)
            record.tally = self._free_tallies.pop() if self._free_tallies else self._new_tally()
            self._clear_tally(record.tally)
        return record

    def _slot(self) -> int:
        if not self._free:
            more = max(64, self._slots)
            self._free = list(range(self._slots + more - 1, self._slots - 1, -1))
            self._slots += more
        slot = self._free.pop()
        for sums in (self._sums, self._norms):
            for tensor in sums.values():
                if slot < len(tensor):
                    tensor[slot] = 0
        return slot

    def _new_tally(self) -> int:
        slot = self._tallies
        self._tallies += 1
        if slot >= self.counters.slots:
            self.counters.grow(2 * self.counters.slots)
        return slot

    def _clear_tally(self, slot: int) -> None:
        self.counters.clear(slot)

    def _tally(self, record: _Record) -> CapCounts:
        return self.counters.tally(record.tally, record.acted)

    def _sums_of(self, layer: int, slots: Tensor) -> np.ndarray:
        return self._sum(layer)[slots].cpu().numpy()

    def _norms_of(self, layer: int, slots: Tensor) -> np.ndarray:
        return self._norm(layer)[slots].cpu().numpy()

    @torch.inference_mode()
    def finish(self, name: str) -> None:
        """Take in that a request has ended or was aborted; its slots are free and its results wait."""
        record = self.records.pop(name, None)
        if record is None:
            return
        self.end_step()
        self._settle()
        if record.spec.key in self._unwanted:
            del self._unwanted[record.spec.key]
        else:
            self.done[record.spec.key] = self._harvest(record)
            self.done.move_to_end(record.spec.key)
        self._free += record.slots
        if record.tally:
            self._free_tallies.append(record.tally)
        while len(self.done) > KEEP_RESULTS:
            self.done.popitem(last=False)
            self.dropped += 1

    def _harvest(self, record: _Record) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        meta: dict[str, Any] = {"counts": record.counts, "plan": record.spec.plan}
        arrays: dict[str, np.ndarray] = {}
        if record.slots:
            layers = self._layers_of(record.spec.layers)
            meta["layers"] = layers
            slots = torch.tensor(record.slots, device=self.device)
            # A stage of a pipeline may hold none of the layers that are asked for.
            sums = [self._sums_of(layer, slots) for layer in layers]
            arrays["sums"] = (
                np.stack(sums, axis=1) if sums else np.zeros((len(slots), 0, self.d_model), np.float32)
            )
            if record.spec.norms:
                norms = [self._norms_of(layer, slots) for layer in layers]
                arrays["norms"] = np.stack(norms, axis=1) if norms else np.zeros((len(slots), 0))
        if record.probes is not None:
            meta["probes"] = list(record.probes.names)
            meta["columns"] = [n for n, layer in enumerate(record.probes.layers) if layer in self.armed]
            for number, rows in enumerate(record.rows):
                arrays[f"projections.{number}"] = np.array(rows, np.float32).reshape(
                    len(rows), len(record.probes.names)
                )
        if record.plan is not None:
            tally = self._tally(record)
            meta["tally"] = {
                "tokens": tally.tokens,
                "capped": tally.capped,
                "fired": {str(layer): count for layer, count in tally.fired.items()},
                "moved": {str(layer): length for layer, length in tally.moved.items()},
                "greatest": tally.greatest,
            }
        if self.stages > 1:
            meta["stage"] = self.stage
            arrays["hit"] = np.array(sorted(record.hit), np.int64)
        return meta, arrays

    @torch.inference_mode()
    def fetch(self, keys: Sequence[str]) -> bytes:
        """Return and forget the results of requests that have ended, as safetensors with JSON in them.

        The engine learns of an end before the worker does, so a request that is still open is taken as
        ended.

        Raises:
            EngineError: If there is no such result.
        """
        self.end_step()
        by_key = {record.spec.key: name for name, record in self.records.items() if record is not None}
        metas: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {}
        for number, key in enumerate(keys):
            if key not in self.done and key in by_key:
                self.finish(by_key[key])
                # Should the engine step once more with it, it is not taken for a new request.
                self.records[by_key[key]] = None
            if key not in self.done:
                raise EngineError(
                    f"there are no results of request {key!r}",
                    hint=f"fetch each once, before {KEEP_RESULTS} others have ended "
                    f"({self.dropped} were dropped so far)",
                )
            meta, found = self.done.pop(key)
            metas[key] = {"place": number, **meta}
            arrays |= {f"{number}.{name}": np.ascontiguousarray(array) for name, array in found.items()}
        return save(arrays or {"empty": np.zeros(1, np.float32)}, {"results": json.dumps(metas)})

    @torch.inference_mode()
    def drop(self, keys: Sequence[str]) -> None:
        """Forget the results of requests, whether or not they have ended or begun."""
        by_key = {record.spec.key: name for name, record in self.records.items() if record is not None}
        for key in keys:
            if key in by_key:
                self.finish(by_key[key])
                self.records[by_key[key]] = None
            elif key not in self.done:
                # It waits in the scheduler, and may come here before its abortion does.
                self._unwanted[key] = None
                while len(self._unwanted) > KEEP_RESULTS:
                    self._unwanted.popitem(last=False)
            self.done.pop(key, None)

    def stats(self) -> dict[str, int]:
        """Return what is held, for tests of leaks and for metrics."""
        return {
            "requests": sum(record is not None for record in self.records.values()),
            "plain": sum(record is None for record in self.records.values()),
            "slots": self._slots,
            "free_slots": len(self._free),
            "tallies": self._tallies - 1,
            "free_tallies": len(self._free_tallies),
            "results": len(self.done),
            "dropped": self.dropped,
            "plans": 0 if self.edits.table is None else len(self.edits.table.places),
        }


def _take(hidden: Tensor, residual: Tensor | None, rows: Tensor) -> Tensor:
    part = hidden.index_select(0, rows)
    return part if residual is None else part + residual.index_select(0, rows)


def _grown(old: Tensor | None, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    new = torch.zeros(shape, dtype=dtype, device=device)
    if old is not None:
        new[: len(old)] = old
    return new
