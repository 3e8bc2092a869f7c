"""Apply plans in a continuously batched engine, where a step holds some tokens of many requests.

The formula is that of `_program`, on [tokens, d]. The tokens on which an operation acts are found on the host
once per step; steps that hold the same requests, with one response token each, reuse them. A decoder block
that returns (hidden, residual) has their sum as its residual stream. For a token that is moved, the edited
sum is written to residual and hidden becomes 0. All other tokens keep the bits of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from personascope.interventions._cap_counts import CapCounts
from personascope.interventions._fused import count_rows, edit_rows
from personascope.interventions._ops import Cap
from personascope.interventions._plan import Plan
from personascope.interventions._program import JointStage, PlanTable, SingleStage
from personascope.interventions._token_spans import TokenSpans


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Tokens of one request in a step.

    Attributes:
        plan: Plan of the request.
        extent: Token positions of the parts of its sequence.
        slot: Slot of its counts; 0 for none.
        start: Position of the first token.
        row: Row of the first token in the step.
        tokens: Number of tokens.
        counted: First position that counts; earlier ones pass through the model again after a preemption.
    """

    plan: Plan
    extent: TokenSpans
    slot: int
    start: int
    row: int
    tokens: int
    counted: int


class PackedCapCounters:
    """Running counts of requests, in slots; slot 0 is for tokens that do not count.

    What the layers of a step find is kept token by token until its end, and then counted at once.
    """

    def __init__(self, tokens: int, device: torch.device, slots: int = 64) -> None:
        """Allocate counters for steps of at most ``tokens`` tokens."""
        self.device = device
        self.slots = slots
        self._places: dict[int, int] = {}
        self._fired = torch.zeros(0, slots, dtype=torch.int64, device=device)
        self._moved = torch.zeros(0, slots, dtype=torch.float64, device=device)
        self._greatest = torch.zeros(slots, dtype=torch.float32, device=device)
        self._capped = torch.zeros(slots, dtype=torch.int64, device=device)
        self._hit = torch.zeros(0, tokens, dtype=torch.bool, device=device)
        self._length = torch.zeros(0, tokens, dtype=torch.float32, device=device)
        self._slot_of: Tensor | None = None

    def grow(self, slots: int) -> None:
        """Grow to at least ``slots`` slots."""
        more = slots - self.slots
        if more <= 0:
            return

        def wider(counter: Tensor) -> Tensor:
            return torch.cat([counter, counter.new_zeros(*counter.shape[:-1], more)], dim=-1)

        self._fired, self._moved = wider(self._fired), wider(self._moved)
        self._greatest, self._capped = wider(self._greatest), wider(self._capped)
        self.slots = slots

    def begin(self, slot_of: Tensor | None, layers: Iterable[int] = ()) -> None:
        """Prepare for the next step.

        Args:
            slot_of: Slot in which each row counts, [tokens] int64; None if nothing is counted.
            layers: Layers at which caps may fire.
        """
        self._slot_of = slot_of
        new = [layer for layer in layers if layer not in self._places]
        if new:
            self._places |= {layer: len(self._places) + number for number, layer in enumerate(new)}
            self._fired, self._moved, self._hit, self._length = (
                torch.cat([counter, counter.new_zeros(len(new), counter.shape[1])])
                for counter in (self._fired, self._moved, self._hit, self._length)
            )

    def found(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the buffers in which a layer of the step records what its caps do, by row.

        Returns:
            [tokens] bool, to be set where a cap fired, and [tokens] float32, to which the length of its move
            is added; both are valid until the next `begin`.
        """
        place = self._places[layer]
        return self._hit[place], self._length[place]

    def hit_rows(self) -> np.ndarray:
        """Return the rows of the step on which a cap of any layer fired, [tokens] bool on the host."""
        count = 0 if self._slot_of is None else len(self._slot_of)
        return self._hit[:, :count].any(0).cpu().numpy()

    def finish(self) -> None:
        """End a step and count it; a token on which several layers fired counts once in ``capped``."""
        if self._slot_of is None or not self._places:
            return
        counters = (self._fired, self._moved, self._greatest, self._capped)
        if count_rows(self._slot_of, self._hit, self._length, *counters):
            return
        count = len(self._slot_of)
        hit, length = self._hit[:, :count], self._length[:, :count]
        self._fired.index_add_(1, self._slot_of, hit.long())
        self._moved.index_add_(1, self._slot_of, length.double())
        self._greatest.scatter_reduce_(0, self._slot_of, length.amax(0), "amax")
        self._capped.index_add_(0, self._slot_of, hit.any(0).long())
        hit.zero_()
        length.zero_()

    def clear(self, slot: int) -> None:
        """Reset the counts of a slot to zero."""
        for counter in (self._fired, self._moved, self._greatest, self._capped):
            counter[..., slot] = 0

    def counts(self, slot: int, tokens: int) -> CapCounts:
        """Return a request's counts; ``tokens`` is the number of tokens on which its plan acted."""
        fired, moved = self._fired[:, slot].tolist(), self._moved[:, slot].tolist()
        return CapCounts(
            tokens,
            int(self._capped[slot]),
            {layer: fired[place] for layer, place in self._places.items()},
            {layer: moved[place] for layer, place in self._places.items()},
            float(self._greatest[slot]),
        )


_NOWHERE = (torch.zeros(0, dtype=torch.bool), torch.zeros(0))
"""Buffers of operations that are not counted."""


@dataclass(slots=True, eq=False)
class _Rows:
    """Tokens of a step: their rows (``numbers`` on the host), and their number in each segment."""

    index: Tensor | slice
    numbers: np.ndarray
    lengths: list[int]

    def take(self, stream: Tensor) -> Tensor:
        return stream[self.index] if isinstance(self.index, slice) else stream.index_select(0, self.index)

    def put(self, stream: Tensor, part: Tensor, mask: Tensor, values: Tensor | None) -> None:
        """Write values (None for 0) where the mask is set; ``part`` is what `take` returned."""
        view = isinstance(self.index, slice)
        if values is None:
            part = part.masked_fill_(mask, 0) if view else part.masked_fill(mask, 0)
        elif view:
            torch.where(mask, values, part, out=part)
        else:
            part = torch.where(mask, values, part)
        if not view:
            assert isinstance(self.index, Tensor)
            stream.index_copy_(0, self.index, part)


@dataclass(slots=True, eq=False)
class _Edit:
    """One stage of a layer: a formula for rows, or caps that hold together.

    Attributes:
        rows: Tokens to edit.
        single: Tensors of the formula.
        uniform: Whether the formula is the same for all tokens.
        caps: Whether the operations include caps.
        joint: Caps that hold together.
        low: Floors of the joint caps, for each token.
        high: Ceilings of the joint caps, for each token.
        loop: Formula, and buffers for what is found, as `edit_rows` takes them on a CPU.
    """

    rows: _Rows
    single: SingleStage | None = None
    uniform: bool = False
    caps: bool = False
    joint: JointStage | None = None
    low: Tensor | None = None
    high: Tensor | None = None
    loop: tuple[np.ndarray, ...] | None = None


class PackedPlans:
    """Apply plans to one step after another."""

    def __init__(self, counters: PackedCapCounters, device: torch.device) -> None:
        """Start without any plan."""
        self.counters = counters
        self.device = device
        self.table: PlanTable | None = None
        self._edits: dict[int, list[_Edit]] = {}
        self._rows: dict[tuple[tuple[int, int, int], ...], _Rows] = {}

    def begin(self, segments: Sequence[Segment], plans: Sequence[Plan]) -> None:
        """Find the tokens of the next step on which operations act.

        Args:
            segments: Segments of the requests with a plan.
            plans: Plans that the table holds if it must be rebuilt, besides those of the segments: others
                that may come back.
        """
        self._edits = {}
        self._rows = {}
        if not segments:
            self.counters.begin(None)
            return
        if self.table is None or any(s.plan.digest not in self.table.places for s in segments):
            distinct = {plan.digest: plan for plan in (*plans, *(s.plan for s in segments))}
            self.table = PlanTable(list(distinct.values()), response_only=False)
        slot_of = np.zeros(max(segment.row + segment.tokens for segment in segments), np.int64)
        for segment in segments:
            skipped = max(0, segment.counted - segment.start)
            slot_of[segment.row + skipped : segment.row + segment.tokens] = segment.slot
        capped = {op.layer for segment in segments for op in segment.plan.ops if isinstance(op, Cap)}
        self.counters.begin(torch.from_numpy(slot_of).to(self.device), sorted(capped))
        places = [self.table.places[segment.plan.digest] for segment in segments]
        for layer in sorted({layer for segment in segments for layer in segment.plan.layers}):
            edits: list[_Edit] = []
            for at, step in enumerate(self.table.steps(layer)):
                edit = self._single(layer, at, segments, places)
                if edit is not None:
                    edits.append(edit)
                for joint in step.joint:
                    for number, segment in enumerate(segments):
                        if places[number] == joint.plan:
                            edits.append(self._joint(joint, number, segment))
            if edits:
                self._edits[layer] = edits

    @property
    def layers(self) -> frozenset[int]:
        """Layers at which an operation acts in this step."""
        return frozenset(self._edits)

    def _single(self, layer: int, at: int, segments: Sequence[Segment], places: list[int]) -> _Edit | None:
        assert self.table is not None
        step = self.table.steps(layer)[at]
        ranges: list[tuple[int, int, int]] = []
        chosen: list[int] = []
        caps: list[bool] = []
        for number, segment in enumerate(segments):
            op = step.ops[places[number]]
            if op is None:
                continue
            low, high = segment.extent.bounds(op.tokens)
            low, high = max(low, segment.start), min(high, segment.start + segment.tokens)
            if low < high:
                ranges.append((number, low, high))
                chosen.append(places[number])
                caps.append(isinstance(op, Cap))
        single = self.table.single(layer, at, self.device)
        if not ranges or single is None:
            return None
        rows = self._of(tuple(ranges), segments)
        uniform = len(set(chosen)) == 1
        if uniform:
            only = chosen[0]
            single = single.map(lambda tensor: tensor[only])
        else:
            place = torch.from_numpy(np.repeat(chosen, rows.lengths)).to(self.device)
            single = single.map(lambda tensor: tensor.index_select(0, place))
        loop = None
        if self.device.type == "cpu":
            numbers = (single.shift, single.low, single.high, single.is_cap)
            found = self.counters.found(layer) if any(caps) else _NOWHERE
            loop = (
                np.atleast_2d(single.direction.numpy()),
                *(np.atleast_1d(number.numpy()) for number in numbers),
                *(tensor.numpy() for tensor in found),
            )
        return _Edit(rows, single, uniform, any(caps), loop=loop)

    def _joint(self, joint: JointStage, number: int, segment: Segment) -> _Edit:
        positions = np.arange(segment.start, segment.start + segment.tokens)[:, None]
        bounds = np.array([segment.extent.bounds(cap.tokens) for cap in joint.caps])
        acts = torch.from_numpy((positions >= bounds[:, 0]) & (positions < bounds[:, 1]))
        rows = self._of(((number, segment.start, segment.start + segment.tokens),), [segment], offset=number)
        return _Edit(
            rows,
            caps=True,
            joint=joint,
            low=torch.where(acts, joint.low, -torch.inf),
            high=torch.where(acts, joint.high, torch.inf),
        )

    def _of(
        self, ranges: tuple[tuple[int, int, int], ...], segments: Sequence[Segment], offset: int = 0
    ) -> _Rows:
        """Return the rows of ranges (segment, first position, end position), made once per step."""
        if ranges in self._rows:
            return self._rows[ranges]
        shifts = [segments[number - offset].row - segments[number - offset].start for number, _, _ in ranges]
        index = np.concatenate(
            [np.arange(low + by, high + by) for (_, low, high), by in zip(ranges, shifts, strict=True)]
        )
        made = _Rows(
            slice(int(index[0]), int(index[-1]) + 1)
            if int(index[-1]) - int(index[0]) + 1 == len(index)
            else torch.from_numpy(index).to(self.device),
            index,
            [high - low for _, low, high in ranges],
        )
        self._rows[ranges] = made
        return made

    def __call__(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Edit the residual stream of a layer, hidden + residual or hidden alone, in place.

        Args:
            layer: Block index.
            hidden: Hidden states, [tokens, d]; further rows are padding.
            residual: Residual of the same shape, or None.
        """
        for edit in self._edits.get(layer, ()):
            self._edit(layer, edit, hidden, residual)

    def _edit(self, layer: int, edit: _Edit, hidden: Tensor, residual: Tensor | None) -> None:
        rows = edit.rows
        if edit.loop is not None and edit_rows(hidden, residual, rows.numbers, *edit.loop):
            return
        part = rows.take(hidden)
        rest = None if residual is None else rows.take(residual)
        stream = part if rest is None else part + rest
        edited, shift = self._shift(edit, stream.float())
        if shift is None:
            return
        mask = (shift != 0)[:, None]
        edited = edited.to(stream.dtype)
        if rest is None or residual is None:
            rows.put(hidden, part, mask, edited)
        else:
            rows.put(residual, rest, mask, edited)
            rows.put(hidden, part, mask, None)
        if edit.caps:
            if edit.single is not None:
                shift = torch.where(edit.single.is_cap, shift, 0.0)
            hit, length = self.counters.found(layer)
            hit[rows.index] |= shift != 0
            length[rows.index] += shift.abs()

    def _shift(self, edit: _Edit, wide: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the edited tokens, and how far each moved (None if none did)."""
        if edit.joint is not None:
            assert edit.low is not None and edit.high is not None
            solver = edit.joint.solver
            along = (wide.double() @ solver.directions.to(wide.device).T).cpu()
            move = solver.solve(along, edit.low, edit.high)[0].float().to(wide.device)
            return wide + move @ solver.basis.to(wide.device), torch.linalg.vector_norm(move, dim=-1)
        single = edit.single
        assert single is not None
        if edit.uniform:
            along = wide @ single.direction
        else:
            along = torch.bmm(wide[:, None], single.direction[:, :, None])[:, 0, 0]
        shift = single.shift + (along.clamp(single.low, single.high) - along)
        if wide.device.type == "cpu" and not bool(shift.any()):
            return wide, None
        if edit.uniform:
            return torch.addr(wide, shift, single.direction), shift
        return torch.addcmul(wide, shift[:, None], single.direction), shift
