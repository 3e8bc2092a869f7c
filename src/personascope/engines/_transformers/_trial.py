"""Test on a few tokens whether rows that run in a memory get the states of plain passes.

Models differ in how they count positions, read masks and keep recurrent states, and not all declare it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from personascope.engines._contract import Request
from personascope.engines._transformers._prefill import MIN_SHARED, Entry, Prefilled
from personascope.engines._transformers._rows import Queued, Row, new_row
from personascope.interventions import CapCounts, TokenSpans
from personascope.models import LayerStack

log = logging.getLogger(__name__)

_PREFIX = tuple(range(MIN_SHARED))
# Three prompts of different lengths, two of which share a prefix; and two prompts of equal length.
_MIXED = ((*_PREFIX, 20, 21), (*_PREFIX, 30, 31, 32, 33), (40, 41, 42))
_EQUAL = ((50, 51, 52, 53), (60, 61, 62, 63))


class Steps(Protocol):
    """Methods of a memory that are tested."""

    def prefill(self, entries: Sequence[Entry]) -> object: ...
    def admit(self, part: Prefilled, entries: Sequence[int], rows: Sequence[Row]) -> None: ...
    def step(self, rows: Sequence[Row]) -> Tensor: ...
    def finish_step(self) -> None: ...
    def remove(self, index: int) -> int: ...


@torch.inference_mode()
def fits(
    start: Callable[[int], Steps], stack: LayerStack, vocabulary: int, device: torch.device, *, together: bool
) -> bool:
    """Return whether two steps, with a row that ends between them, give the states of whole sequences.

    Args:
        start: Function that returns a memory for a number of rows.
        stack: Layer stack of the model.
        vocabulary: Size of the vocabulary.
        device: Device of the token ids.
        together: Whether to test rows of several lengths together.
    """
    prompts = [
        tuple((vocabulary // 3 + offset) % vocabulary for offset in prompt)
        for prompt in (_MIXED if together else _EQUAL)
    ]
    try:
        memory = start(len(prompts))
        rows: list[Row] = []
        for part in memory.prefill([Entry(prompt) for prompt in prompts]):  # pyright: ignore
            new = [_row(entry.ids, vocabulary // 2 + number) for number, entry in enumerate(part.prompts)]
            memory.admit(part, range(len(new)), new)
            rows += new
        for _ in range(2):
            if not _agree(memory.step(rows), rows, stack, device):
                return False
            memory.finish_step()
            last = memory.remove(0)
            rows[0] = rows[last]
            rows.pop()
            for row in rows:
                row.tokens.append(vocabulary // 4)
                row.fed += 1
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a model may raise anything on a cache that is not its own
        log.debug("a memory does not fit the model: %s: %s", type(error).__name__, error)
        return False
    return True


def _row(prompt: tuple[int, ...], token: int) -> Row:
    row = new_row(Queued(Request("trial", prompt), prompt, TokenSpans(len(prompt))), CapCounts())
    row.tokens.append(token)
    return row


def _agree(states: Tensor, rows: Sequence[Row], stack: LayerStack, device: torch.device) -> bool:
    tolerance = 1e-3 if states.dtype == torch.float32 else 0.1
    for row, mine in zip(rows, states[:, -1].float(), strict=True):
        ids = torch.tensor([[*row.queued.prompt, *row.tokens]], device=device)
        whole = stack.forward(ids)[0, -1].float()
        if not float((mine - whole).norm()) <= tolerance * float(whole.norm()):
            return False
    return True
