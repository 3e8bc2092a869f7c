"""Prompts: prefixes that several prompts share, and equal prompts, pass through the model once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from personascope.engines._transformers._cache import keys_values
from personascope.models import LayerStack

MIN_SHARED = 12
"""Tokens that a prefix must have to be worth a pass of its own."""

Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Prefilled:
    """Prompts that have passed through the model together.

    Attributes:
        prompts: Distinct prompts, in the order of the rows.
        cache: Their keys and values.
        spans: For each prompt, (row, first column, end column) in the cache.
        hidden: State after the final norm of each prompt's last token, [prompts, d].
    """

    prompts: list[Prompt]
    cache: DynamicCache
    spans: list[tuple[int, int, int]]
    hidden: Tensor


def shared(a: Prompt, b: Prompt) -> int:
    """Return the length of the common prefix of two prompts."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def group_by_prefix(prompts: Sequence[Prompt]) -> list[tuple[int, list[Prompt]]]:
    """Cut distinct prompts into groups with a long common prefix.

    Neighbours in sorted order share the most; a group ends where two neighbours share clearly less
    than the pairs beside them (another system prompt begins).

    Returns:
        (length of the shared prefix, prompts); 0 for prompts that share nothing worth a pass.
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
        # The last token is always fed with the suffix, since its logits are wanted.
        length = min(shared(group[0], group[-1]), min(len(prompt) for prompt in group) - 1)
        if len(group) > 1 and length >= MIN_SHARED:
            result.append((length, group))
        else:
            alone += group
    if alone:
        result.append((0, alone))
    return result


def prefill(
    stack: LayerStack, prompts: Sequence[Prompt], budget: int, device: torch.device
) -> Iterator[Prefilled]:
    """Pass distinct prompts through the backbone, in batches of at most ``budget`` padded tokens."""
    groups = group_by_prefix(prompts)
    plain = [(prompt, None) for length, group in groups if not length for prompt in group]
    yield from _batches(stack, sorted(plain, key=lambda item: len(item[0])), None, budget, device)
    prefixes = sorted(
        ((group[0][:length], group) for length, group in groups if length), key=lambda item: len(item[0])
    )
    for part in _chunks([prefix for prefix, _ in prefixes], budget):
        done = next(_batches(stack, [(prefix, None) for prefix in part], None, 1 << 62, device))
        known = dict(zip(done.prompts, done.spans, strict=True))
        members = [(prompt, prefix) for prefix, group in prefixes if prefix in known for prompt in group]
        members.sort(key=lambda item: len(item[0]) - len(item[1]))
        yield from _batches(stack, members, (done.cache, known), budget, device)


def _chunks(prompts: list[Prompt], budget: int) -> Iterator[list[Prompt]]:
    part: list[Prompt] = []
    for prompt in prompts:
        if part and len(prompt) * (len(part) + 1) > budget:
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part


def _batches(
    stack: LayerStack,
    members: Sequence[tuple[Prompt, Prompt | None]],
    prefixes: tuple[DynamicCache, dict[Prompt, tuple[int, int, int]]] | None,
    budget: int,
    device: torch.device,
) -> Iterator[Prefilled]:
    suffixes = {prompt: prompt[len(prefix or ()) :] for prompt, prefix in members}
    prefix_of = dict(members)
    for part in _chunks_by(suffixes, budget):
        heads = [len(prefix_of[prompt] or ()) for prompt in part]
        before = max(heads)
        width = max(len(suffixes[prompt]) for prompt in part)
        cache = DynamicCache()
        mask = None
        if prefixes is not None:
            rows = [prefixes[1][prefix] for prompt in part if (prefix := prefix_of[prompt]) is not None]
            _expand(cache, prefixes[0], rows, before)
            columns = torch.arange(before + width)
            mask = (columns[None, :] >= before - torch.tensor(heads)[:, None]).to(device)
        # Suffixes are padded on the right, where no earlier token can see the padding.
        ids = torch.tensor([suffixes[p] + (0,) * (width - len(suffixes[p])) for p in part], device=device)
        places = torch.arange(width, device=device)[None, :] + torch.tensor(heads, device=device)[:, None]
        output = stack.backbone(
            input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True
        )
        ends = torch.tensor([len(suffixes[prompt]) - 1 for prompt in part])
        state = output.last_hidden_state
        hidden = state[torch.arange(len(part), device=state.device), ends.to(state.device)]
        spans = [
            (row, before - head, before + len(suffixes[prompt]))
            for row, (prompt, head) in enumerate(zip(part, heads, strict=True))
        ]
        yield Prefilled(list(part), cache, spans, hidden)


def _chunks_by(suffixes: dict[Prompt, Prompt], budget: int) -> Iterator[list[Prompt]]:
    part: list[Prompt] = []
    for prompt, suffix in suffixes.items():
        if part and len(suffix) * (len(part) + 1) > budget:
            yield part
            part = []
        part.append(prompt)
    if part:
        yield part


def _expand(cache: DynamicCache, source: DynamicCache, rows: list[tuple[int, int, int]], width: int) -> None:
    for index in range(len(source.layers)):
        old = keys_values(source, index)
        new = tuple(part.new_zeros(len(rows), part.shape[1], width, part.shape[3]) for part in old)
        for place, (row, start, stop) in enumerate(rows):
            for into, part in zip(new, old, strict=True):
                into[place, :, width - (stop - start) :] = part[row, :, start:stop]
        cache.update(new[0], new[1], index)
