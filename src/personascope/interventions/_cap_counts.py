"""Count, on the device, where caps fire and how far they move."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from personascope.interventions._cap_stats import CapStats
from personascope.interventions._ops import Cap
from personascope.interventions._plan import Plan


@dataclass(slots=True, eq=False)
class CapCounts:
    """Counts over a part of one request's tokens; the counts of parts can be added.

    Attributes:
        tokens: Number of tokens on which some operation acts.
        capped: Number of tokens on which a cap fired at one layer or more.
        fired: Layer -> number of tokens on which a cap fired.
        moved: Layer -> sum of the lengths of those moves.
        greatest: Greatest length of a move.
    """

    tokens: int = 0
    capped: int = 0
    fired: dict[int, int] = field(default_factory=dict[int, int])
    moved: dict[int, float] = field(default_factory=dict[int, float])
    greatest: float = 0.0

    def __add__(self, other: CapCounts) -> CapCounts:
        """Return the total counts of both parts."""
        layers = sorted({*self.fired, *other.fired})
        return CapCounts(
            self.tokens + other.tokens,
            self.capped + other.capped,
            {layer: self.fired.get(layer, 0) + other.fired.get(layer, 0) for layer in layers},
            {layer: self.moved.get(layer, 0.0) + other.moved.get(layer, 0.0) for layer in layers},
            max(self.greatest, other.greatest),
        )

    def stats(self, plan: Plan) -> CapStats:
        """Return the reported statistics of a request that ran under ``plan``."""
        layers = sorted({op.layer for op in plan.ops if isinstance(op, Cap)})
        fired = {layer: self.fired.get(layer, 0) for layer in layers}
        return CapStats(
            tokens=self.tokens,
            capped_tokens=self.capped,
            fired=fired,
            moved={layer: self.moved.get(layer, 0.0) / max(1, fired[layer]) for layer in layers},
            max_moved=self.greatest,
        )


class CapCounters:
    """Running counts for the rows of a batch, in slots between which rows can move.

    Nothing is copied to the host before the counts of a row are read.
    """

    def __init__(self, slots: int) -> None:
        """Set the number of slots; counters are allocated when a cap acts."""
        self.slots = slots
        self._fired: dict[int, Tensor] = {}
        self._moved: dict[int, Tensor] = {}
        self._greatest: Tensor | None = None
        self._capped: Tensor | None = None
        self._any: Tensor | None = None

    def add(self, layer: int, fired: Tensor, moved: Tensor) -> None:
        """Add the counts of one layer of a forward pass.

        Args:
            layer: Block index.
            fired: Whether a cap fired, [rows, tokens] bool.
            moved: Length of the move, [rows, tokens] float32, 0 where nothing fired.
        """
        rows = fired.shape[0]
        if layer not in self._fired:
            self._fired[layer] = torch.zeros(self.slots, dtype=torch.int64, device=fired.device)
            self._moved[layer] = torch.zeros(self.slots, dtype=torch.float64, device=fired.device)
        if self._greatest is None or self._capped is None:
            self._greatest = torch.zeros(self.slots, dtype=torch.float32, device=fired.device)
            self._capped = torch.zeros(self.slots, dtype=torch.int64, device=fired.device)
        self._fired[layer][:rows] += fired.sum(-1)
        self._moved[layer][:rows] += moved.sum(-1)
        home = self._greatest.device
        greatest = self._greatest[:rows]
        torch.maximum(greatest, moved.amax(-1).to(home), out=greatest)
        here = fired.to(home)
        self._any = here if self._any is None else self._any | here

    def finish(self) -> None:
        """End a forward pass; a token on which several layers fired counts once in ``capped``."""
        if self._any is not None and self._capped is not None:
            self._capped[: self._any.shape[0]] += self._any.sum(-1)
        self._any = None

    def clear(self, slot: int) -> None:
        """Reset the counts of a slot to zero."""
        for counter in self._all():
            counter[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Copy a row's counts to another slot."""
        for counter in self._all():
            counter[target] = counter[source]

    def counts(self, slot: int, tokens: int) -> CapCounts:
        """Return a row's counts.

        Args:
            slot: Slot of the row.
            tokens: Number of the row's tokens on which some operation acted.
        """
        return CapCounts(
            tokens,
            0 if self._capped is None else int(self._capped[slot]),
            {layer: int(counter[slot]) for layer, counter in self._fired.items()},
            {layer: float(counter[slot]) for layer, counter in self._moved.items()},
            0.0 if self._greatest is None else float(self._greatest[slot]),
        )

    def _all(self) -> list[Tensor]:
        single = [counter for counter in (self._greatest, self._capped) if counter is not None]
        return [*self._fired.values(), *self._moved.values(), *single]
