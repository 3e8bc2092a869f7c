"""Pooling over text that already exists: one forward pass in chunks, without the LM head."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.chat import Rendered, TurnSpan
from personascope.engines._contract import Capture, Probe, TurnActivations
from personascope.engines._parts import response_start, turn_spans
from personascope.engines._transformers._choice import ModelMemory
from personascope.engines._transformers._prefill import plan_table
from personascope.engines._transformers._taps import ForwardHooks, StopForward
from personascope.interventions import BatchedPlans, CapCounters, Plan, TokenSpans, plan_for_part, reply_parts
from personascope.models import LayerStack

CHUNK = 1024
"""Tokens of one forward pass; the residual stream of no more than these is ever held, one layer at a time."""


class SpanReader:
    """Sums over the spans of one sequence, chunk by chunk."""

    def __init__(
        self,
        spans: list[tuple[int, int]],
        layers: tuple[int, ...],
        probes: tuple[Probe, ...],
        *,
        norms: bool = False,
    ) -> None:
        """Begin every span at zero.

        Args:
            spans: First position of each, and the one after its last.
            layers: Layers of the sums, in the order of the means.
            probes: Directions for each token.
            norms: Also sum the tokens' norms.
        """
        self.spans = spans
        self.order = layers
        self.layers = frozenset(layers)
        self.probes = probes
        self.norms: dict[tuple[int, int], float] | None = {} if norms else None
        self.offset = 0
        self.sums: dict[tuple[int, int], Tensor] = {}
        self.projections: dict[tuple[int, str], list[float]] = {}

    @classmethod
    def of(
        cls, spans: Sequence[TurnSpan], n_layers: int, capture: Capture | None, probes: tuple[Probe, ...]
    ) -> SpanReader:
        """Return a reader of messages' spans."""
        layers = () if capture is None else tuple(capture.layers or range(n_layers))
        norms = capture is not None and capture.norms
        return cls([(span.start, span.end) for span in spans], layers, probes, norms=norms)

    def turns(self, spans: Sequence[TurnSpan]) -> list[TurnActivations]:
        """Return what was read of each message; ``spans`` are those that the reader was made of."""
        return [
            TurnActivations(
                index=span.index,
                role=span.role,
                pooled=self._mean(number) if self.order and span.end > span.start else None,
                token_count=span.end - span.start,
                projections={
                    probe.name: np.array(self.projections.get((number, probe.name), []), dtype=np.float32)
                    for probe in self.probes
                },
                norms=self._mean_norms(number),
            )
            for number, span in enumerate(spans)
        ]

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

    def _mean(self, number: int) -> np.ndarray:
        begin, end = self.spans[number]
        return np.stack([(self.sums[number, layer] / (end - begin)).cpu().numpy() for layer in self.order])

    def _mean_norms(self, number: int) -> np.ndarray | None:
        begin, end = self.spans[number]
        if self.norms is None or end == begin:
            return None
        return np.array([self.norms[number, layer] / (end - begin) for layer in self.order], np.float32)


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one sequence, from a position on, and the plan under which they pass through the model."""

    ids: tuple[int, ...]
    start: int
    plan: Plan | None


def read_parts(
    stack: LayerStack,
    taps: ForwardHooks,
    device: torch.device,
    parts: Sequence[Part],
    reader: SpanReader,
    extent: TokenSpans,
    memory: ModelMemory,
    cache: DynamicCache | None = None,
) -> None:
    """Feed parts of a sequence that follow what is in the cache; the hooks must be set.

    A pass ends with the highest layer that is read: the blocks above it do not run. What begins a sequence
    passes in chunks if the model keeps keys and values alone, else at once; what follows it, token by token.

    Args:
        stack: The model's blocks.
        taps: Its hooks.
        device: Where tokens go.
        parts: The tokens.
        reader: What reads them.
        extent: Where the parts lie for a plan.
        memory: What the model keeps of earlier tokens.
        cache: What came before, of keys and values alone; None if nothing did.
    """
    if cache is None:
        cache = memory.reading_cache(len(parts))
    # A reader and an editor of a run that is under way get their place back.
    before = taps.reader, taps.layers, taps.editor
    taps.reader, taps.layers = reader, reader.layers | {probe.layer for probe in reader.probes}
    taps.last = max(taps.layers, default=0)
    try:
        for part in parts:
            table = plan_table([part.plan], response_only=False)
            editor = None if table is None else BatchedPlans(table, [part.plan], CapCounters(1), [extent])
            taps.editor = editor
            width = CHUNK if memory.keys else len(part.ids) if part.start == 0 else 1
            for offset in range(0, len(part.ids), width):
                reader.offset = part.start + offset
                ids = torch.tensor([part.ids[offset : offset + width]], device=device)
                if editor is not None:
                    editor.at(torch.arange(reader.offset, reader.offset + ids.shape[1])[None], None)
                with suppress(StopForward):
                    places = torch.arange(reader.offset, reader.offset + ids.shape[1], device=device)[None]
                    counted = memory.positions and cache is not None
                    stack.forward(ids, cache=cache, positions=places if counted else None)
    finally:
        taps.reader, taps.layers, taps.editor = before
        taps.last = None


def observe_turns(
    stack: LayerStack,
    taps: ForwardHooks,
    device: torch.device,
    rendered: Rendered,
    capture: Capture | None,
    probes: tuple[Probe, ...],
    plan: Plan | None,
    memory: ModelMemory,
    tokens: str = "answer",
) -> list[TurnActivations]:
    """Pool each turn of a rendered conversation (see ``TransformersEngine.observe``)."""
    spans = turn_spans(rendered, tokens)
    reader = SpanReader.of(spans, stack.n_layers, capture, probes)
    parts = parts_of(rendered.token_ids, _reply_parts(rendered), plan)
    with taps.attached():
        read_parts(stack, taps, device, parts, reader, extent_of(rendered), memory)
    return reader.turns(spans)


def parts_of(
    ids: tuple[int, ...], parts: Sequence[tuple[int, str]], plan: Plan | None, start: int = 0
) -> list[Part]:
    """Cut a sequence where what a plan does changes.

    Args:
        ids: The sequence.
        parts: First token of each part, and the part as `plan_for_part` names it; the first one begins at
            ``start``.
        plan: The plan.
        start: First token that is wanted.
    """
    if plan is None or not reply_parts(plan):
        return [Part(ids[start:], start, plan)]
    ends = [*(begin for begin, _ in parts[1:]), len(ids)]
    return [
        Part(ids[begin:end], begin, plan_for_part(plan, part))
        for (begin, part), end in zip(parts, ends, strict=True)
        if begin < end
    ]


def _reply_parts(rendered: Rendered) -> list[tuple[int, str]]:
    """Return where the parts of an existing conversation begin: its last reply is the response."""
    replies = [span for span in rendered.spans if span.role == "assistant"]
    if not replies:
        return [(0, "prompt")]
    last = replies[-1]
    thoughts = [s for s in rendered.thinking if s.index == last.index and s.end > s.start]
    thinking = [(place, part) for s in thoughts for place, part in ((s.start, "thinking"), (s.end, ""))]
    return [(0, "prompt"), *thinking, (last.start, "answer"), (last.end, "")]


def extent_of(rendered: Rendered) -> TokenSpans:
    """Return where the parts of an existing conversation lie: its last reply is the response."""
    return TokenSpans(response_start(rendered), tuple(span.start for span in rendered.spans))
