"""Prefill prompts, with shared prefixes and equal prompts passed through the model only once.

Keys and values computed under a plan are valid only under that plan, so prompts are shared only among
requests whose plans do the same to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.engines._transformers._cache import keys_values
from personascope.engines._transformers._taps import ForwardHooks
from personascope.interventions import (
    BatchedPlans,
    CapCounters,
    CapCounts,
    Plan,
    PlanTable,
    TokenSpans,
    acts_on_prompt,
    tokens_acted_on,
)
from personascope.models import LayerStack

MIN_SHARED = 12
"""Minimum length in tokens of a shared prefix that gets its own pass."""

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A prompt with the plan that acts on it; equal entries are the same computation.

    Attributes:
        ids: Token ids of the prompt.
        key: Identity of the plan's effect on the prompt: None for none, else the plan's digest and the first
            tokens of the turns that it names.
        plan: Plan, if it acts on the prompt; else None.
        extent: Positions of the parts of the prompt.
    """

    ids: Prompt
    key: tuple[object, ...] | None = None
    plan: Plan | None = field(default=None, compare=False)
    extent: TokenSpans = field(default=TokenSpans(0), compare=False)


def entry_of(ids: Prompt, plan: Plan | None, extent: TokenSpans) -> Entry:
    """Return the entry of a prompt; a plan on the response alone leaves the prompt plain."""
    if plan is None or not acts_on_prompt(plan):
        return Entry(ids)
    starts = tuple(extent.bounds(op.tokens)[0] for op in plan.ops if op.tokens.startswith("turn:"))
    # Operations on the prompt alone need to know where it ends.
    return Entry(ids, (plan.digest, starts), plan, replace(extent, prompt=len(ids)))


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """Prompts that have passed through the model together.

    Attributes:
        prompts: Distinct entries, in the order of the rows.
        cache: Cache of the prompts; None if the model keeps nothing.
        spans: Place of each entry in the cache, as (row, first column, end column).
        hidden: State after the final norm of each prompt's last token, [prompts, d].
        cap_counts: Cap counts of each entry, over all of its tokens.
        states: State after the final norm of every token except the prefixes', right-padded
            [prompts, tokens, d]; None unless requested.
    """

    prompts: list[Entry]
    cache: DynamicCache | None
    spans: list[tuple[int, int, int]]
    hidden: Tensor
    cap_counts: list[CapCounts]
    states: Tensor | None = None


def shared(a: Prompt, b: Prompt) -> int:
    """Return the length of the common prefix of two prompts."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def group_by_prefix(prompts: Sequence[Prompt]) -> list[tuple[int, list[Prompt]]]:
    """Group distinct prompts by long common prefixes.

    Neighbours in sorted order share the most. A group ends where two neighbours share clearly less than
    the adjacent pairs (another system prompt begins).

    Returns:
        Groups as (length of the shared prefix, prompts); the length is 0 for prompts without one.
    """
    ordered = sorted(set(prompts))
    common = [shared(a, b) for a, b in pairwise(ordered)]
    groups: list[list[Prompt]] = [[]]
    for index, prompt in enumerate(ordered):
        groups[-1].append(prompt)
        if index < len(common):
            beside = max(
                common[index - 1] if index else 0, common[index + 1] if index + 1 < len(common) else 0
            )
            if common[index] < MIN_SHARED or common[index] < 0.7 * beside:
                groups.append([])
    result: list[tuple[int, list[Prompt]]] = []
    alone: list[Prompt] = []
    for group in filter(None, groups):
        # The last token is always fed with the suffix, because its logits are needed.
        length = min(shared(group[0], group[-1]), min(len(prompt) for prompt in group) - 1)
        if len(group) > 1 and length >= MIN_SHARED:
            result.append((length, group))
        else:
            alone += group
    if alone:
        result.append((0, alone))
    return result


def prefill(
    stack: LayerStack, taps: ForwardHooks, entries: Sequence[Entry], budget: int, device: torch.device
) -> Iterator[Prefilled]:
    """Pass distinct entries through the backbone, in batches of at most ``budget`` padded tokens.

    The hooks must be attached. Their editor is overwritten.
    """
    by_key: dict[tuple[object, ...] | None, list[Entry]] = {}
    for entry in entries:
        by_key.setdefault(entry.key, []).append(entry)
    plain: list[tuple[Entry, Entry | None]] = []
    prefixed: list[tuple[Entry, list[Entry]]] = []
    for of_key in by_key.values():
        known = {entry.ids: entry for entry in of_key}
        for length, group in group_by_prefix(list(known)):
            members = [known[ids] for ids in group]
            if length:
                prefixed.append((replace(members[0], ids=group[0][:length]), members))
            else:
                plain += [(member, None) for member in members]
    run = PromptBatches(stack, taps, budget, device)
    yield from run(sorted(plain, key=lambda item: len(item[0].ids)), None)
    prefixed.sort(key=lambda item: len(item[0].ids))
    for part in _chunks({number: len(prefix.ids) for number, (prefix, _) in enumerate(prefixed)}, budget):
        group = [prefixed[number] for number in part]
        done = next(
            PromptBatches(stack, taps, 1 << 62, device)([(prefix, None) for prefix, _ in group], None)
        )
        members = [(entry, prefix) for prefix, entries in group for entry in entries]
        members.sort(key=lambda item: len(item[0].ids) - len(item[1].ids))
        yield from run(members, done)


def _chunks(widths: dict[int, int], budget: int) -> Iterator[list[int]]:
    """Split numbered sequences, in order of width, into parts of at most ``budget`` padded tokens."""
    part: list[int] = []
    for number, width in widths.items():
        if part and width * (len(part) + 1) > budget:
            yield part
            part = []
        part.append(number)
    if part:
        yield part


class PromptBatches:
    """Runner that passes entries through the model in batches, optionally after prefilled prefixes."""

    def __init__(
        self,
        stack: LayerStack,
        taps: ForwardHooks,
        budget: int,
        device: torch.device,
        *,
        keep_states: bool = False,
        new_cache: Callable[[], DynamicCache | None] = DynamicCache,
    ) -> None:
        """Prepare to pass entries.

        Args:
            stack: Layer stack of the model.
            taps: Attached forward hooks of the model.
            budget: Maximum number of padded tokens in one forward pass.
            device: Device of the token ids.
            keep_states: Whether to return the state of every token too.
            new_cache: Function that returns an empty cache. Prefixes need one of keys and values only.
        """
        self.stack = stack
        self.taps = taps
        self.budget = budget
        self.device = device
        self.keep_states = keep_states
        self.new_cache = new_cache

    def __call__(
        self, members: Sequence[tuple[Entry, Entry | None]], prefixes: Prefilled | None
    ) -> Iterator[Prefilled]:
        widths = {i: len(e.ids) - len(p.ids if p else ()) for i, (e, p) in enumerate(members)}
        for part in _chunks(widths, self.budget):
            yield self._run([members[number] for number in part], prefixes)

    def _run(self, part: list[tuple[Entry, Entry | None]], prefixes: Prefilled | None) -> Prefilled:
        known = {} if prefixes is None else {e: i for i, e in enumerate(prefixes.prompts)}
        heads = [len(prefix.ids) if prefix else 0 for _, prefix in part]
        suffixes = [entry.ids[head:] for (entry, _), head in zip(part, heads, strict=True)]
        before, width = max(heads), max(map(len, suffixes))
        cache = self.new_cache()
        mask = None
        if prefixes is not None:
            assert cache is not None and prefixes.cache is not None
            rows = [prefixes.spans[known[prefix]] for _, prefix in part if prefix is not None]
            _expand(cache, prefixes.cache, rows, before)
            columns = torch.arange(before + width)
            mask = (columns[None, :] >= before - torch.tensor(heads)[:, None]).to(self.device)
        # Suffixes are padded on the right, where no earlier token attends to the padding.
        ids = torch.tensor([suffix + (0,) * (width - len(suffix)) for suffix in suffixes], device=self.device)
        places = torch.arange(width)[None, :] + torch.tensor(heads)[:, None]
        counters = self._edit([entry for entry, _ in part], places, [len(suffix) for suffix in suffixes])
        try:
            # Without a prefix the model counts the positions by its own rule.
            positions = None if prefixes is None else places.to(self.device)
            state = self.stack.forward(ids, cache=cache, mask=mask, positions=positions)
        finally:
            self.taps.editor = None
        counters.finish()
        cap_counts: list[CapCounts] = []
        for row, (entry, prefix) in enumerate(part):
            acted = 0
            if entry.plan is not None:
                acted = tokens_acted_on(entry.plan, entry.extent, heads[row], len(entry.ids))
            counts = counters.counts(row, acted)
            if prefix is not None and prefixes is not None:
                counts = prefixes.cap_counts[known[prefix]] + counts
            cap_counts.append(counts)
        ends = torch.tensor([len(suffix) - 1 for suffix in suffixes])
        hidden = state[torch.arange(len(part), device=state.device), ends.to(state.device)]
        spans = [
            (row, before - head, before + len(suffix))
            for row, (head, suffix) in enumerate(zip(heads, suffixes, strict=True))
        ]
        kept = state if self.keep_states else None
        return Prefilled([entry for entry, _ in part], cache, spans, hidden, cap_counts, kept)

    def _edit(self, entries: list[Entry], places: Tensor, lengths: list[int]) -> CapCounters:
        counters = CapCounters(len(entries))
        plans = [entry.plan for entry in entries]
        table = plan_table(plans, response_only=False)
        if table is not None:
            editor = BatchedPlans(table, plans, counters, [entry.extent for entry in entries])
            editor.at(places, torch.arange(places.shape[1])[None, :] < torch.tensor(lengths)[:, None])
            self.taps.editor = editor
        return counters


def plan_table(plans: Sequence[Plan | None], *, response_only: bool) -> PlanTable | None:
    """Return a table of the distinct plans of some rows; None if there are none."""
    distinct = {plan.digest: plan for plan in plans if plan is not None}
    return PlanTable(list(distinct.values()), response_only=response_only) if distinct else None


def _expand(cache: DynamicCache, source: DynamicCache, rows: list[tuple[int, int, int]], width: int) -> None:
    for index in range(len(source.layers)):
        old = keys_values(source, index)
        if old is None:
            continue
        new = tuple(part.new_zeros(len(rows), part.shape[1], width, part.shape[3]) for part in old)
        for place, (row, start, stop) in enumerate(rows):
            for into, part in zip(new, old, strict=True):
                into[place, :, width - (stop - start) :] = part[row, :, start:stop]
        cache.update(new[0], new[1], index)
