"""Log-probabilities of given continuations: one forward pass a batch, logits for the continuations alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from personascope.engines._contract import Scored, ScoreRequest
from personascope.engines._transformers._prefill import plan_table
from personascope.engines._transformers._rows import Queued
from personascope.engines._transformers._taps import Taps
from personascope.interventions import Counters, Pass, tokens_acted_on
from personascope.models import LayerStack

POSITIONS = 256
"""Positions whose logits are in memory at the same time, at most."""

Item = tuple[ScoreRequest, Queued]


def score_batches(
    stack: LayerStack, taps: Taps, items: Sequence[Item], budget: int, device: torch.device
) -> Iterator[Scored]:
    """Score requests in batches of at most ``budget`` padded tokens; the hooks must be set."""
    part: list[Item] = []
    width = 0
    for item in sorted(items, key=lambda item: -_length(item)):
        # Longest first: the width is the first one's.
        width = width if part else _length(item)
        if part and width * (len(part) + 1) > budget:
            yield from _score(stack, taps, part, device)
            part, width = [], _length(item)
        part.append(item)
    if part:
        yield from _score(stack, taps, part, device)


def _length(item: Item) -> int:
    # The last token of a continuation is never fed: nothing after it is asked for.
    return len(item[1].prompt) + len(item[0].continuation) - 1


@torch.inference_mode()
def _score(stack: LayerStack, taps: Taps, part: list[Item], device: torch.device) -> list[Scored]:
    rows = [(*queued.prompt, *request.continuation)[:-1] for request, queued in part]
    width = max(map(len, rows))
    # Padded on the right, where a causal model cannot see it.
    ids = torch.tensor([row + (0,) * (width - len(row)) for row in rows], device=device)
    plans = [request.plan for request, _ in part]
    table = plan_table(plans, response_only=False)
    counters = Counters(len(part))
    before = taps.reader, taps.editor
    taps.reader = taps.editor = None
    try:
        if table is not None:
            taps.editor = Pass(table, plans, counters, [queued.extent for _, queued in part])
            places = torch.arange(width).expand(len(rows), width)
            taps.editor.at(places, places < torch.tensor([[len(row)] for row in rows]))
        state = stack.backbone(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        taps.reader, taps.editor = before
    counters.finish()
    # The continuations' positions of all rows go through the head together: few rows at a time are slow.
    asked = [
        (row, len(queued.prompt) - 1 + offset, token)
        for row, (request, queued) in enumerate(part)
        for offset, token in enumerate(request.continuation)
    ]
    logprobs: list[float] = []
    best: list[bool] = []
    for start in range(0, len(asked), POSITIONS):
        rows_at, columns, targets = torch.tensor(asked[start : start + POSITIONS]).T.to(state.device)
        logits = stack.logits(state[rows_at, columns][None])[0].float()
        target = targets.to(logits.device)
        logprobs += (logits.gather(-1, target[:, None])[:, 0] - logits.logsumexp(-1)).tolist()
        best += (logits.argmax(-1) == target).tolist()
    done: list[Scored] = []
    begin = 0
    for row, (request, queued) in enumerate(part):
        end = begin + len(request.continuation)
        values, plan = np.array(logprobs[begin:end], dtype=np.float32), request.plan
        digest = telemetry = None
        if plan is not None:
            digest = plan.digest
            acted = tokens_acted_on(plan, queued.extent, 0, len(rows[row]))
            telemetry = counters.tally(row, acted).telemetry(plan)
        done.append(Scored(request.id, values, all(best[begin:end]), digest, telemetry))
        begin = end
    return done
