"""Pool activations of existing text in one forward pass, in chunks and without the LM head."""

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
from personascope.engines._parts import part_starts, response_start, turn_spans
from personascope.engines._transformers._choice import ModelMemory
from personascope.engines._transformers._prefill import plan_table
from personascope.engines._transformers._taps import ForwardHooks, StopForward
from personascope.interventions import BatchedPlans, CapCounters, Plan, TokenSpans, plan_for_part, reply_parts
from personascope.models import LayerStack

CHUNK = 1024
"""Maximum number of tokens per chunk, whose residual stream is held for one layer at a time."""


class SpanReader:
    """Reader that sums activations over spans of one sequence, chunk by chunk."""

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
            spans: First position of each span, and the one after its last.
            layers: Layers to sum, in the order of the means.
            probes: Directions to project every token on.
            norms: Whether to sum the tokens' norms too.
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
        """Return a reader of the spans of messages."""
        layers = () if capture is None else tuple(capture.layers or range(n_layers))
        norms = capture is not None and capture.norms
        return cls([(span.start, span.end) for span in spans], layers, probes, norms=norms)

    def turns(self, spans: Sequence[TurnSpan]) -> list[TurnActivations]:
        """Return the activations of each message; ``spans`` are those that the reader was made from."""
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
    """Tokens of one sequence from the position ``start`` on, and the plan to apply to them."""

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
    """Feed parts of a sequence that follow the tokens in the cache; the hooks must be attached.

    A pass stops after the highest layer that is read. If the model keeps only keys and values, tokens pass
    in chunks. Otherwise the part that begins the sequence passes at once, and later parts token by token.

    Args:
        stack: Layer stack of the model.
        taps: Attached forward hooks of the model.
        device: Device of the token ids.
        parts: Parts of the sequence, in order.
        reader: Reader of their activations.
        extent: Positions of prompt, response and turns, for the plans.
        memory: Kind of memory of the model.
        cache: Keys and values of earlier tokens; None if there are none.
    """
    if cache is None:
        cache = memory.reading_cache(len(parts))
    # The reader and editor of a run in progress are restored afterwards.
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
    """Pool the activations of each turn of a rendered conversation (see ``TransformersEngine.observe``)."""
    spans = turn_spans(rendered, tokens)
    reader = SpanReader.of(spans, stack.n_layers, capture, probes)
    parts = parts_of(rendered.token_ids, part_starts(rendered), plan)
    with taps.attached():
        read_parts(stack, taps, device, parts, reader, extent_of(rendered), memory)
    return reader.turns(spans)


def parts_of(
    ids: tuple[int, ...], parts: Sequence[tuple[int, str]], plan: Plan | None, start: int = 0
) -> list[Part]:
    """Split a sequence where the operations of a plan change.

    Args:
        ids: Token ids of the sequence.
        parts: First token and name (as in `plan_for_part`) of each part; the first part begins at ``start``.
        plan: Plan to apply, or None.
        start: First token to return.
    """
    if plan is None or not reply_parts(plan):
        return [Part(ids[start:], start, plan)]
    ends = [*(begin for begin, _ in parts[1:]), len(ids)]
    return [
        Part(ids[begin:end], begin, plan_for_part(plan, part))
        for (begin, part), end in zip(parts, ends, strict=True)
        if begin < end
    ]


def extent_of(rendered: Rendered) -> TokenSpans:
    """Return the positions of response and turns of a conversation, whose last reply is the response."""
    return TokenSpans(response_start(rendered), tuple(span.start for span in rendered.spans))
