"""Tiny models of random weights that write the marks of a family's template, and so think and answer.

A model follows chains: some tokens are almost always followed by the next one of a chain, such as those of a
closing tag. All other tokens are what random weights make of the whole context, so replies differ by prompt
and plan, and marks come at different places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from helpers.scripted import build_model
from templates import Family
from tiny import family_tokenizer


def save_chains(
    family: Family,
    folder: Path,
    chains: Sequence[str],
    *,
    openings: int = 60,
    silent: Sequence[str] = (),
    strength: float = 10.0,
) -> Path:
    """Save a model that follows chains, and its tokenizer, into a folder.

    Args:
        family: Template and tokenizer.
        folder: Folder to write.
        chains: Texts whose tokens follow each other. Where a token goes on in two of them, the context
            decides.
        openings: Number of ordinary tokens after which the first token of each chain is likely.
        silent: Tokens that are never written by chance.
        strength: Length of the rows that make a token follow another.
    """
    tokenizer = family_tokenizer(family)
    model = build_model(family, head_dim=32)
    embedding = model.get_input_embeddings().weight.data
    head = model.get_output_embeddings().weight.data
    random = torch.Generator().manual_seed(5)
    plain = _ordinary(tokenizer)
    head *= 3.5
    # The newest token must show through what the blocks add.
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data *= 0.35
    for token in silent:
        head[tokenizer.convert_tokens_to_ids(token)] = 0
    # Tokens that open a chain have a direction in common.
    common = torch.randn(embedding.shape[1], generator=random)
    common /= common.norm()
    picked = [plain[place] for place in torch.randperm(len(plain), generator=random)[:openings].tolist()]
    embedding[picked] += embedding[picked].norm(dim=-1, keepdim=True) * common
    unit = embedding / embedding.norm(dim=-1, keepdim=True)
    followed: set[tuple[int, int]] = set()
    for number, text in enumerate(chains):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if number == 0:
            head[ids[0]] += strength * common
        for pair in pairwise(ids):
            if pair not in followed:
                head[pair[1]] += strength * unit[pair[0]]
                followed.add(pair)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _ordinary(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [token for token in range(len(tokenizer)) if token not in special]
