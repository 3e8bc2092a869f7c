"""Pooling over text that already exists: one forward pass in chunks, without the LM head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.chat import Rendered
from personascope.engines._contract import Capture, Probe, Request, TurnActivations
from personascope.engines._transformers._taps import Taps
from personascope.models import LayerStack

CHUNK = 1024
"""Tokens of one forward pass; the residual stream of no more than these is ever held, one layer at a time."""


class _SpanReader:
    """Sums over the spans of one sequence, chunk by chunk."""

    def __init__(
        self, spans: list[tuple[int, int]], layers: frozenset[int], probes: tuple[Probe, ...]
    ) -> None:
        self.spans = spans
        self.layers = layers
        self.probes = probes
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
            for probe in self.probes:
                if probe.layer == layer:
                    values = part @ torch.from_numpy(probe.direction).float().to(part.device)
                    self.projections.setdefault((number, probe.name), []).extend(values.tolist())

    def mean(self, number: int, layers: list[int]) -> np.ndarray:
        begin, end = self.spans[number]
        return np.stack([(self.sums[number, layer] / (end - begin)).cpu().numpy() for layer in layers])


def _read(
    stack: LayerStack, taps: Taps, device: torch.device, ids: tuple[int, ...], reader: _SpanReader
) -> None:
    cache = DynamicCache()
    # A reader of a run that is under way gets its place back.
    before = taps.reader, taps.layers
    taps.reader, taps.layers = reader, reader.layers | {probe.layer for probe in reader.probes}
    try:
        for offset in range(0, len(ids), CHUNK):
            reader.offset = offset
            part = torch.tensor([ids[offset : offset + CHUNK]], device=device)
            stack.backbone(input_ids=part, past_key_values=cache, use_cache=True)
    finally:
        taps.reader, taps.layers = before


def observe_turns(
    stack: LayerStack,
    taps: Taps,
    device: torch.device,
    rendered: Rendered,
    capture: Capture | None,
    probes: tuple[Probe, ...],
) -> list[TurnActivations]:
    """Pool each turn of a rendered conversation (see ``TransformersEngine.observe``)."""
    layers = [] if capture is None else list(capture.layers or range(stack.n_layers))
    reader = _SpanReader([(span.start, span.end) for span in rendered.spans], frozenset(layers), probes)
    with taps.attached():
        _read(stack, taps, device, tuple(rendered.token_ids), reader)
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
        )
        for number, span in enumerate(rendered.spans)
    ]


def pool_span(
    stack: LayerStack,
    taps: Taps,
    device: torch.device,
    prompt: tuple[int, ...],
    response: tuple[int, ...],
    request: Request,
) -> np.ndarray:
    """Return the means over a response by feeding it once more, [layers, d]; the hooks must be set."""
    assert request.capture is not None
    layers = list(request.capture.layers or range(stack.n_layers))
    reader = _SpanReader([(len(prompt), len(prompt) + len(response))], frozenset(layers), ())
    _read(stack, taps, device, prompt + response, reader)
    return reader.mean(0, layers)
