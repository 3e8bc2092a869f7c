"""Select the tokens of a step to pool or project, and do so inside the forward pass."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.worker._records import Projections, RequestRecord, StepPart
from personascope.engines._vllm.worker._span_sums import SpanSums, take_rows

PROBE_MATRICES = 4096
"""Maximum number of probe matrices (a probe set at a layer) kept on the device."""

_Range = tuple[int, int, int]
"""First row, end row and slot of consecutive tokens."""


@dataclass(slots=True, eq=False)
class _Read:
    """Tokens of a step that are read together, with rows and slots on the device and on the host.

    With ``before`` they are also projected before the plans' operations. An owner is a record, the number of
    a span, and the first position and number of its tokens.
    """

    rows: Tensor
    host_rows: np.ndarray
    slots: Tensor
    host_slots: np.ndarray
    probes: ProbeSet | None = None
    before: bool = False
    owners: list[tuple[RequestRecord, int, int, int]] = field(
        default_factory=list[tuple[RequestRecord, int, int, int]]
    )


class StepReads:
    """Reads of the current step.

    Args:
        layers: Layers that are instrumented in this worker.
        sums: Sums of the pooled spans.
        device: Device of the residual stream.
    """

    def __init__(self, layers: Collection[int], sums: SpanSums, device: torch.device) -> None:
        """Begin with nothing to read."""
        self.layers, self.sums, self.device = frozenset(layers), sums, device
        self._matrices: OrderedDict[tuple[str, int], tuple[Tensor, Tensor]] = OrderedDict()
        self._pools: dict[int, list[_Read]] = {}
        self._normed: _Read | None = None
        self._probed: dict[int, list[_Read]] = {}
        self._early: dict[int, list[_Read]] = {}
        self._open: dict[int, tuple[_Read, Tensor]] = {}

    def clear(self) -> None:
        """Read nothing in the next step."""
        self._pools, self._probed, self._early, self._normed = {}, {}, {}, None

    def route(self, parts: Sequence[StepPart]) -> None:
        """Determine the rows to sum and project."""
        pooled: dict[tuple[int, ...] | None, list[_Range]] = {}
        normed: list[_Range] = []
        probed: dict[tuple[str, bool], list[tuple[RequestRecord, int, int, int, int]]] = {}
        for record, number, position, begin, end in read_rows(parts):
            if record.spec.pool:
                layers = None if record.spec.layers is None else tuple(sorted(set(record.spec.layers)))
                pooled.setdefault(layers, []).append((begin, end, record.slots[number]))
                if record.spec.norms:
                    normed.append((begin, end, record.slots[number]))
            if record.probes is not None:
                key = record.probes.digest, record.reads_before
                probed.setdefault(key, []).append((record, number, position, begin, end))
        self._pools = self._pool_reads(pooled)
        self._normed = _Read(*self._index(normed)) if normed else None
        self._probed, self._early = {}, {}
        for (_, before), found in probed.items():
            probes = found[0][0].probes
            assert probes is not None
            read = _Read(
                *self._index([(low, high, 0) for *_, low, high in found]),
                probes=probes,
                before=before,
                owners=[(record, number, at, high - low) for record, number, at, low, high in found],
            )
            for layer in sorted(set(probes.layers) & self.layers):
                self._probed.setdefault(layer, []).append(read)
                if before:
                    self._early.setdefault(layer, []).append(read)

    def chosen(self, layers: tuple[int, ...] | None) -> list[int]:
        """Return the layers of this worker among a spec's ``layers``; all for None."""
        return sorted(self.layers if layers is None else self.layers & set(layers))

    def layer(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Sum and project the rows of a layer."""
        for read in self._pools.get(layer, ()):
            rows, slots = (read.rows, read.host_rows), (read.slots, read.host_slots)
            self.sums.add(layer, hidden, residual, rows, slots)
        if self._normed is not None:
            self.sums.add_norms(layer, hidden, residual, self._normed.rows, self._normed.slots)
        for read in self._probed.get(layer, ()):
            self._project(read, layer, hidden, residual)

    def before(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Project the rows of a layer whose plans are about to act."""
        for read in self._early.get(layer, ()):
            assert read.probes is not None
            self._project(read, layer, hidden, residual, len(read.probes.names))

    def _project(
        self, read: _Read, layer: int, hidden: Tensor, residual: Tensor | None, first: int = 0
    ) -> None:
        """Write the projections of a read at a layer into its columns, counted from ``first``."""
        assert read.probes is not None
        columns, vectors = self._matrix(read.probes, layer)
        if id(read) not in self._open:
            width = len(read.probes.names) * (2 if read.before else 1)
            self._open[id(read)] = read, torch.empty(len(read.host_rows), width, device=self.device)
        projected = take_rows(hidden, residual, read.rows).float() @ vectors
        self._open[id(read)][1][:, columns + first if first else columns] = projected

    def finish(self, moved: int = 0) -> Projections:
        """Append the step's projections to the records, and return them.

        Args:
            moved: Number of steps that continued the one that was routed, each a token further.
        """
        found: Projections = {}
        for read, values in self._open.values():
            rows = values.tolist()
            for record, number, position, tokens in read.owners:
                part, rows = rows[:tokens], rows[tokens:]
                record.take(number, position + moved, part, found)
        self._open = {}
        return found

    def _pool_reads(self, pooled: Mapping[tuple[int, ...] | None, list[_Range]]) -> dict[int, list[_Read]]:
        reads: dict[int, list[_Read]] = {}
        for layers, ranges in pooled.items():
            read = _Read(*self._index(ranges))
            for layer in self.chosen(layers):
                reads.setdefault(layer, []).append(read)
        return reads

    def _index(self, ranges: list[_Range]) -> tuple[Tensor, np.ndarray, Tensor, np.ndarray]:
        """Return the rows of ranges and their slots, each on the device and on the host."""
        rows = np.concatenate([np.arange(low, high) for low, high, _ in ranges])
        slots = np.repeat([slot for _, _, slot in ranges], [high - low for low, high, _ in ranges])
        device = self.device
        return torch.from_numpy(rows).to(device), rows, torch.from_numpy(slots).to(device), slots

    def _matrix(self, probes: ProbeSet, layer: int) -> tuple[Tensor, Tensor]:
        """Return the columns of a set's probes at a layer, and their directions [d, columns]."""
        key = (probes.digest, layer)
        if key not in self._matrices:
            columns = [number for number, at in enumerate(probes.layers) if at == layer]
            vectors = torch.from_numpy(np.ascontiguousarray(probes.directions[columns].T))
            self._matrices[key] = torch.tensor(columns, device=self.device), vectors.to(self.device)
            while len(self._matrices) > PROBE_MATRICES:
                self._matrices.popitem(last=False)
        self._matrices.move_to_end(key)
        return self._matrices[key]


def read_rows(parts: Sequence[StepPart]) -> Iterator[tuple[RequestRecord, int, int, int, int]]:
    """Yield what a step reads for the first time: record, span, first position, first row, end row."""
    for record, row, start, tokens in parts:
        for number, (first, stop) in enumerate(record.spans):
            low, high = max(first, start, record.seen), min(stop, start + tokens)
            for begin, end in record.reads(low, high) if low < high else ():
                yield record, number, begin, row + begin - start, row + end - start
