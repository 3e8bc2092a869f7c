"""Accumulate float32 sums of the residual stream per row and layer, and projections on probes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from personascope.engines._contract import Probe, Request
from personascope.engines._transformers._rows import Row


def layers_wanted(requests: list[Request], n_layers: int) -> frozenset[int]:
    """Return the layers that any of the requests captures or probes."""
    wanted: set[int] = set()
    for request in requests:
        if request.capture is not None:
            wanted |= set(range(n_layers) if request.capture.layers is None else request.capture.layers)
        wanted |= {probe.layer for probe in request.probes}
    return frozenset(wanted)


class StepReader:
    """Reader that adds each step's residual stream to sums, which take [layers, slots, d].

    The sums are on the device of their block, so that a model spread over devices needs no copies.

    Attributes:
        reads_before: Whether tokens are also projected before the plans change them.
    """

    def __init__(self, slots: int, d_model: int) -> None:
        """Prepare; sums are allocated when a layer is first read."""
        self.slots = slots
        self.d_model = d_model
        self.sums: dict[int, Tensor] = {}
        self.rows: list[Row] = []
        self._probes: dict[int, tuple[tuple[Probe, ...], Tensor]] = {}
        self._step: dict[int, Tensor] = {}
        self._before: dict[int, Tensor] = {}
        self.reads_before = False
        self._counted: Tensor | None = None

    def set_rows(self, rows: list[Row]) -> None:
        """Set the running rows, and stack the directions of their probes."""
        self.rows = rows
        by_layer: dict[int, dict[Probe, None]] = {}
        for row in rows:
            for probe in row.queued.request.probes:
                by_layer.setdefault(probe.layer, {})[probe] = None
        self._probes = {
            layer: (tuple(probes), torch.from_numpy(np.stack([probe.direction for probe in probes])).float())
            for layer, probes in by_layer.items()
        }

    def begin_step(self) -> None:
        """Determine which rows' newest tokens are selected by their requests."""
        # A completion that was read again has passed through the same hooks.
        self._before = {}
        counted = [row.counted for row in self.rows]
        self._counted = None if all(counted) else torch.tensor(counted)

    def __call__(self, layer: int, hidden: Tensor) -> None:
        """Read the residual stream of one layer, [rows, 1, d]."""
        sums = self.sums.get(layer)
        if sums is None:
            sums = torch.zeros(self.slots, self.d_model, dtype=torch.float32, device=hidden.device)
            self.sums[layer] = sums
        stream = hidden[:, -1].float()
        if self._counted is None:
            sums[: stream.shape[0]] += stream
        else:
            sums[: stream.shape[0]] += torch.where(self._counted.to(stream.device)[:, None], stream, 0.0)
        if layer in self._probes:
            self._step[layer] = self._project(layer, stream)

    def before(self, layer: int, hidden: Tensor) -> None:
        """Project the residual stream of one layer, [rows, 1, d], which the plans are about to change."""
        if layer in self._probes:
            self._before[layer] = self._project(layer, hidden[:, -1].float())

    def _project(self, layer: int, stream: Tensor) -> Tensor:
        return stream @ self._probes[layer][1].to(stream.device).T

    def finish_step(self) -> None:
        """Append the step's projections to the rows."""
        if not self._probes:
            return
        values = {layer: tensor.tolist() for layer, tensor in self._step.items()}
        earlier = values | {layer: tensor.tolist() for layer, tensor in self._before.items()}
        index = {
            probe: (layer, place)
            for layer, (probes, _) in self._probes.items()
            for place, probe in enumerate(probes)
        }
        for number, row in enumerate(self.rows):
            found = [index[probe] for probe in row.queued.request.probes]
            row.projections.append([values[layer][number][place] for layer, place in found])
            if self.reads_before:
                row.before.append([earlier[layer][number][place] for layer, place in found])
        self._step, self._before = {}, {}

    def clear(self, place: int) -> None:
        """Set a row's sums to zero."""
        for sums in self.sums.values():
            sums[place] = 0

    def move(self, source: int, target: int) -> None:
        """Move a row's sums to another place."""
        for sums in self.sums.values():
            sums[target] = sums[source]

    def mean(self, place: int, layers: list[int], count: int) -> np.ndarray:
        """Return a row's means, [layers, d] float32."""
        return np.stack([(self.sums[layer][place] / count).cpu().numpy() for layer in layers])
