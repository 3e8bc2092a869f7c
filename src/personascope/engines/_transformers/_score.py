"""Score given continuations, with logits only for them and a shared prompt passed only once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch

from personascope.engines._contract import Scored, ScoreRequest
from personascope.engines._transformers._finite import Failures
from personascope.engines._transformers._prefill import MIN_SHARED, Entry, PromptBatches, plan_table
from personascope.engines._transformers._rows import Queued
from personascope.engines._transformers._taps import ForwardHooks
from personascope.interventions import BatchedPlans, CapCounters, tokens_acted_on
from personascope.models import LayerStack

POSITIONS = 256
"""Maximum number of positions whose logits are in memory at the same time."""

Item = tuple[ScoreRequest, Queued]


def score_batches(
    stack: LayerStack,
    taps: ForwardHooks,
    items: Sequence[Item],
    budget: int,
    device: torch.device,
    failures: Failures,
    *,
    shares: bool = False,
) -> Iterator[Scored]:
    """Score requests in batches of at most ``budget`` padded tokens; the hooks must be attached.

    Args:
        stack: Layer stack of the model.
        taps: Attached forward hooks of the model.
        items: Requests and their rendered prompts.
        budget: Maximum number of padded tokens in one forward pass.
        device: Device of the token ids.
        failures: Collector of requests whose log-probabilities are not finite; they yield nothing.
        shares: Whether to pass a prompt that several requests without a plan share through the model only
            once. The model's cache must hold keys and values only.
    """
    by_prompt: dict[tuple[int, ...], list[Item]] = {}
    alone: list[Item] = []
    for item in items:
        request, queued = item
        if shares and request.plan is None and len(queued.prompt) > MIN_SHARED:
            by_prompt.setdefault(queued.prompt, []).append(item)
        else:
            alone.append(item)
    common = [group for group in by_prompt.values() if len(group) > 1]
    alone += [group[0] for group in by_prompt.values() if len(group) == 1]
    for group in common:
        yield from _finite(group, _score_after(stack, taps, group, budget, device), failures)
    part: list[Item] = []
    width = 0
    for item in sorted(alone, key=lambda item: -_length(item)):
        # Items are sorted longest first, so the first one gives the width.
        width = width if part else _length(item)
        if part and width * (len(part) + 1) > budget:
            yield from _finite(part, _score(stack, taps, part, device), failures)
            part, width = [], _length(item)
        part.append(item)
    if part:
        yield from _finite(part, _score(stack, taps, part, device), failures)


def _finite(items: list[Item], scored: list[Scored], failures: Failures) -> Iterator[Scored]:
    by_id = {request.id: request for request, _ in items}
    for one in scored:
        if np.isfinite(one.logprobs).all():
            yield one
        else:
            failures.add(by_id[one.id])


@torch.inference_mode()
def _score_after(
    stack: LayerStack, taps: ForwardHooks, group: list[Item], budget: int, device: torch.device
) -> list[Scored]:
    """Score continuations of one prompt, which passes through the model only once."""
    prompt = group[0][1].prompt
    # The last token of the prompt is fed with the continuations, whose first token its state predicts.
    prefix = Entry(prompt[:-1])
    before = taps.reader, taps.editor
    taps.reader = taps.editor = None
    try:
        return _score_suffixes(stack, taps, group, prefix, budget, device)
    finally:
        taps.reader, taps.editor = before


def _score_suffixes(
    stack: LayerStack, taps: ForwardHooks, group: list[Item], prefix: Entry, budget: int, device: torch.device
) -> list[Scored]:
    prompt = group[0][1].prompt
    first = next(PromptBatches(stack, taps, budget, device)([(prefix, None)], None))
    by_length = sorted(group, key=lambda item: len(item[0].continuation))
    members = [(Entry((*prompt, *request.continuation)[:-1]), prefix) for request, _ in by_length]
    run = PromptBatches(stack, taps, budget, device, keep_states=True)
    done: list[Scored] = []
    for after in run(members, first):
        assert after.states is not None
        requests = [request for request, _ in by_length[len(done) : len(done) + len(after.prompts)]]
        logprobs, best = _read(stack, after.states, [(request, 0) for request in requests])
        for request, values, greedy in zip(requests, logprobs, best, strict=True):
            done.append(Scored(request.id, values, greedy))
    return done


def _length(item: Item) -> int:
    # The last token of a continuation is not fed, because nothing after it is scored.
    return len(item[1].prompt) + len(item[0].continuation) - 1


@torch.inference_mode()
def _score(stack: LayerStack, taps: ForwardHooks, part: list[Item], device: torch.device) -> list[Scored]:
    rows = [(*queued.prompt, *request.continuation)[:-1] for request, queued in part]
    width = max(map(len, rows))
    # Padding is on the right, where earlier tokens of a causal model do not attend to it.
    ids = torch.tensor([row + (0,) * (width - len(row)) for row in rows], device=device)
    plans = [request.plan for request, _ in part]
    table = plan_table(plans, response_only=False)
    counters = CapCounters(len(part))
    before = taps.reader, taps.editor
    taps.reader = taps.editor = None
    try:
        if table is not None:
            taps.editor = BatchedPlans(table, plans, counters, [queued.extent for _, queued in part])
            places = torch.arange(width).expand(len(rows), width)
            taps.editor.at(places, places < torch.tensor([[len(row)] for row in rows]))
        state = stack.forward(ids)
    finally:
        taps.reader, taps.editor = before
    counters.finish()
    starts = [(request, len(queued.prompt) - 1) for request, queued in part]
    logprobs, best = _read(stack, state, starts)
    done: list[Scored] = []
    for row, (request, queued) in enumerate(part):
        plan = request.plan
        digest = stats = None
        if plan is not None:
            digest = plan.digest
            acted = tokens_acted_on(plan, queued.extent, 0, len(rows[row]))
            stats = counters.counts(row, acted).stats(plan)
        done.append(Scored(request.id, logprobs[row], best[row], digest, stats))
    return done


def _read(
    stack: LayerStack, states: torch.Tensor, starts: list[tuple[ScoreRequest, int]]
) -> tuple[list[np.ndarray], list[bool]]:
    """Return each row's log-probabilities, and whether every token was the most likely one.

    Args:
        stack: Layer stack, for the head.
        states: States after the final norm, [rows, tokens, d].
        starts: Request of each row, and the column whose state predicts its first token.
    """
    # The positions of all rows go through the head together, because few at a time are slow.
    asked = [
        (row, start + offset, token)
        for row, (request, start) in enumerate(starts)
        for offset, token in enumerate(request.continuation)
    ]
    logprobs: list[float] = []
    best: list[bool] = []
    for start in range(0, len(asked), POSITIONS):
        rows_at, columns, targets = torch.tensor(asked[start : start + POSITIONS]).T.to(states.device)
        logits = stack.logits(states[rows_at, columns][None])[0].float()
        target = targets.to(logits.device)
        logprobs += (logits.gather(-1, target[:, None])[:, 0] - logits.logsumexp(-1)).tolist()
        best += (logits.argmax(-1) == target).tolist()
    ends = list(accumulate((len(request.continuation) for request, _ in starts), initial=0))
    spans = list(pairwise(ends))
    return (
        [np.array(logprobs[begin:end], dtype=np.float32) for begin, end in spans],
        [all(best[begin:end]) for begin, end in spans],
    )
