"""Pooling over text that already exists: one forward pass in chunks, without the LM head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.chat import Rendered
from personascope.engines._contract import Capture, Probe, TurnActivations
from personascope.engines._transformers._prefill import plan_table
from personascope.engines._transformers._rows import Queued
from personascope.engines._transformers._taps import Taps
from personascope.interventions import Counters, Extent, Pass, Plan
from personascope.models import LayerStack

CHUNK = 1024
"""Tokens of one forward pass; the residual stream of no more than these is ever held, one layer at a time."""


class _SpanReader:
    """Sums over the spans of one sequence, chunk by chunk."""

    def __init__(
        self,
        spans: list[tuple[int, int]],
        layers: frozenset[int],
        probes: tuple[Probe, ...],
        *,
        norms: bool = False,
    ) -> None:
        self.spans = spans
        self.layers = layers
        self.probes = probes
        self.norms: dict[tuple[int, int], float] | None = {} if norms else None
        self.offset = 0
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.projections: dict[tuple[int, str], list[float]] = {}

    def __call__(self, layer: int, hidden: Tensor) -> None:
        stop = self.offset + hidden.shape[1]
        for number, (begin, end) in enumerate(self.spans):
            first, last = max(begin, self.offset), min(end, stop)
            if first >= last:
                continue
            part = hidden[0, first - self.offset : last - self.offset].float()
            if layer in self.layers:
                key = (number, layer)
                self.sums[key] = self.sums.get(key, torch.zeros_like(part[0])) + part.sum(0)
                if self.norms is not None:
                    self.norms[key] = self.norms.get(key, 0.0) + float(part.norm(dim=-1).sum())
            for probe in self.probes:
                if probe.layer == layer:
                    values = part @ torch.from_numpy(probe.direction).float().to(part.device)
                    self.projections.setdefault((number, probe.name), []).extend(values.tolist())

    def mean(self, number: int, layers: list[int]) -> np.ndarray:
        begin, end = self.spans[number]
        return np.stack([(self.sums[number, layer] / (end - begin)).cpu().numpy() for layer in layers])

    def mean_norms(self, number: int, layers: list[int]) -> np.ndarray | None:
        begin, end = self.spans[number]
        if self.norms is None or end == begin:
            return None
        return np.array([self.norms[number, layer] / (end - begin) for layer in layers], np.float32)


def _read(
    stack: LayerStack,
    taps: Taps,
    device: torch.device,
    ids: tuple[int, ...],
    reader: _SpanReader,
    plan: Plan | None,
    extent: Extent,
) -> None:
    cache = DynamicCache()
    table = plan_table([plan], response_only=False)
    editor = None if table is None else Pass(table, [plan], Counters(1), [extent])
    # A reader and an editor of a run that is under way get their place back.
    before = taps.reader, taps.layers, taps.editor
    taps.editor = editor
    taps.reader, taps.layers = reader, reader.layers | {probe.layer for probe in reader.probes}
    try:
        for offset in range(0, len(ids), CHUNK):
            reader.offset = offset
            part = torch.tensor([ids[offset : offset + CHUNK]], device=device)
            if editor is not None:
                editor.at(torch.arange(offset, offset + part.shape[1])[None], None)
            stack.backbone(input_ids=part, past_key_values=cache, use_cache=True)
    finally:
        taps.reader, taps.layers, taps.editor = before


def observe_turns(
    stack: LayerStack,
    taps: Taps,
    device: torch.device,
    rendered: Rendered,
    capture: Capture | None,
    probes: tuple[Probe, ...],
    plan: Plan | None,
) -> list[TurnActivations]:
    """Pool each turn of a rendered conversation (see ``TransformersEngine.observe``)."""
    layers = [] if capture is None else list(capture.layers or range(stack.n_layers))
    spans = [(span.start, span.end) for span in rendered.spans]
    norms = capture is not None and capture.norms
    reader = _SpanReader(spans, frozenset(layers), probes, norms=norms)
    replies = [span.start for span in rendered.spans if span.role == "assistant"]
    extent = Extent(replies[-1] if replies else len(rendered.token_ids), tuple(start for start, _ in spans))
    with taps.attached():
        _read(stack, taps, device, tuple(rendered.token_ids), reader, plan, extent)
    return [
        TurnActivations(
            index=span.index,
            role=span.role,
            pooled=reader.mean(number, layers) if layers and span.end > span.start else None,
            token_count=span.end - span.start,
            projections={
                probe.name: np.array(reader.projections.get((number, probe.name), []), dtype=np.float32)
                for probe in probes
            },
            norms=reader.mean_norms(number, layers) if norms else None,
        )
        for number, span in enumerate(rendered.spans)
    ]


def pool_span(
    stack: LayerStack, taps: Taps, device: torch.device, queued: Queued, response: tuple[int, ...]
) -> np.ndarray:
    """Return the means over a response by feeding it once more, [layers, d]; the hooks must be set."""
    request, prompt = queued.request, queued.prompt
    assert request.capture is not None
    layers = list(request.capture.layers or range(stack.n_layers))
    reader = _SpanReader([(len(prompt), len(prompt) + len(response))], frozenset(layers), ())
    _read(stack, taps, device, prompt + response, reader, request.plan, queued.extent)
    return reader.mean(0, layers)
