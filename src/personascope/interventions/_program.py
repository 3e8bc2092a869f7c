"""Apply plans to a batch in which every row has its own plan, or none.

Steer, ablate and a single cap are one formula: with p = <h, v>, h becomes h + (s + clamp(p, low, high) - p)
v, where steering has no bounds, ablation has low = high, and a cap has s = 0. The rows of a batch therefore
need no branches: a row without an operation has v = 0. Sums are taken in float32 and cast back; a token that
is not moved keeps its bits. Several caps of one layer that hold together are solved separately (`_caps`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from personascope.interventions._cap_counts import CapCounters
from personascope.interventions._caps import JointCaps, bounds_of
from personascope.interventions._ops import Ablate, Cap, Op, Steer
from personascope.interventions._plan import Plan
from personascope.interventions._token_spans import END, TokenSpans


@dataclass(slots=True, eq=False)
class SingleStage:
    """Tensors with one operation for each plan of a table; place 0 is no operation."""

    direction: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor
    is_cap: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> SingleStage:
        return SingleStage(
            change(self.direction),
            change(self.shift),
            change(self.low),
            change(self.high),
            change(self.is_cap),
        )


@dataclass(slots=True, eq=False)
class JointStage:
    """Caps of one plan that hold together."""

    plan: int
    caps: list[Cap]
    solver: JointCaps
    low: Tensor
    high: Tensor


@dataclass(slots=True, eq=False)
class _Step:
    """Operations at one layer at one place in the order, for all plans of a table."""

    single: SingleStage | None
    ops: list[Op | None]
    joint: list[JointStage]


class PlanTable:
    """Distinct plans as tensors, layer by layer.

    Args:
        plans: Distinct plans; plan i has place i + 1, and place 0 is no plan.
        response_only: Whether to leave out operations on the prompt, for a table that serves response tokens
            only.
    """

    def __init__(self, plans: Sequence[Plan], *, response_only: bool) -> None:
        """Turn the plans into tensors on the CPU; they are copied to other devices on first use."""
        self.places = {plan.digest: place for place, plan in enumerate(plans, start=1)}
        self.response_only = response_only
        self._steps: dict[int, list[_Step]] = {}
        self._there: dict[tuple[int, int, torch.device], SingleStage] = {}
        for layer in sorted({layer for plan in plans for layer in plan.layers}):
            stages = [[]] + [
                [
                    tuple(op for op in stage if not (response_only and op.tokens == "prompt"))
                    for stage in plan.stages(layer)
                ]
                for plan in plans
            ]
            stages = [[stage for stage in one if stage] for one in stages]
            depth = max(map(len, stages))
            if depth:
                self._steps[layer] = [
                    _step([one[at] if at < len(one) else () for one in stages], plans[0].d_model)
                    for at in range(depth)
                ]

    @property
    def layers(self) -> frozenset[int]:
        """Layers at which some plan acts."""
        return frozenset(self._steps)

    def steps(self, layer: int) -> list[_Step]:
        """Return the steps of a layer, in order."""
        return self._steps[layer]

    def single(self, layer: int, at: int, device: torch.device) -> SingleStage | None:
        """Return the single operations of a step on a device, or None if it has none."""
        single = self._steps[layer][at].single
        if single is None:
            return None
        key = (layer, at, device)
        if key not in self._there:
            self._there[key] = single.map(lambda tensor: tensor.to(device))
        return self._there[key]


def _step(stages: list[tuple[Op, ...]], d_model: int) -> _Step:
    ops: list[Op | None] = [stage[0] if len(stage) == 1 else None for stage in stages]
    joint: list[JointStage] = []
    for plan, stage in enumerate(stages):
        if len(stage) > 1:
            caps = [op for op in stage if isinstance(op, Cap)]
            directions = np.stack([cap.direction for cap in caps])
            low, high = bounds_of(caps)
            joint.append(JointStage(plan, caps, JointCaps(directions), low, high))
    if not any(ops):
        return _Step(None, ops, joint)
    zero = np.zeros(d_model, np.float32)
    rows = [_formula(op) for op in ops]
    return _Step(
        SingleStage(
            torch.from_numpy(np.stack([zero if op is None else op.direction for op in ops])),
            torch.tensor([row[0] for row in rows], dtype=torch.float32),
            torch.tensor([row[1] for row in rows], dtype=torch.float32),
            torch.tensor([row[2] for row in rows], dtype=torch.float32),
            torch.tensor([isinstance(op, Cap) for op in ops]),
        ),
        ops,
        joint,
    )


def _formula(op: Op | None) -> tuple[float, float, float]:
    """Return s, low and high of an operation."""
    if isinstance(op, Steer):
        return op.amount, -np.inf, np.inf
    if isinstance(op, Ablate):
        return 0.0, op.to, op.to
    if isinstance(op, Cap):
        low = -np.inf if op.floor is None else op.floor
        return 0.0, low, np.inf if op.ceiling is None else op.ceiling
    return 0.0, -np.inf, np.inf


@dataclass(slots=True, eq=False)
class _Chosen:
    """Tensors of a step for the rows of a pass: broadcast if all rows have one plan, else one per row."""

    single: SingleStage | None
    uniform: bool
    caps: bool
    bounds: tuple[Tensor, Tensor] | None
    joint: list[tuple[JointStage, Tensor, tuple[Tensor, Tensor] | None]]


class BatchedPlans:
    """Edit the residual stream of forward passes, layer by layer, by the plan of each row.

    Args:
        table: Table that holds the rows' plans.
        plans: Plan of each row, or None.
        counters: Counters of the caps, with slot i for row i.
        extents: Token positions of the parts of each row; None if all tokens belong to the response.
    """

    def __init__(
        self,
        table: PlanTable,
        plans: Sequence[Plan | None],
        counters: CapCounters,
        extents: Sequence[TokenSpans] | None = None,
    ) -> None:
        """Choose the plans of the rows; tensors are gathered when a layer first runs."""
        self.table = table
        self.places = [0 if plan is None else table.places[plan.digest] for plan in plans]
        self.counters = counters
        self.extents = extents
        self.layers = table.layers if any(self.places) else frozenset[int]()
        self._chosen: dict[tuple[int, torch.device], list[_Chosen]] = {}
        self._positions: Tensor | None = None
        self._counted: Tensor | None = None

    def at(self, positions: Tensor | None, counted: Tensor | None) -> None:
        """Set the tokens of the next forward pass.

        Args:
            positions: Position of each token in its row, [rows, tokens]; needed with extents.
            counted: Whether each token counts (padding does not), [rows, tokens] bool; None if all do.
        """
        self._positions = positions
        self._counted = counted

    def __call__(self, layer: int, hidden: Tensor) -> Tensor:
        """Return the residual stream [rows, tokens, d] of a layer after the rows' operations."""
        key = (layer, hidden.device)
        if key not in self._chosen:
            self._chosen[key] = [
                self._choose(layer, at, hidden.device) for at in range(len(self.table.steps(layer)))
            ]
        fired: Tensor | None = None
        moved: Tensor | None = None
        for step in self._chosen[key]:
            if step.single is not None:
                hidden, shift = self._single(step, hidden)
                if step.caps:
                    hit = (shift != 0) & (step.single.is_cap if step.uniform else step.single.is_cap[:, None])
                    length = torch.where(hit, shift.abs(), 0.0)
                    fired = hit if fired is None else fired | hit
                    moved = length if moved is None else moved + length
            for joint, rows, bounds in step.joint:
                hidden, hit, length = self._joint(joint, rows, bounds, hidden)
                fired = hit if fired is None else fired | hit
                moved = length if moved is None else moved + length
        if fired is not None and moved is not None:
            if self._counted is not None:
                counted = self._counted.to(fired.device)
                fired, moved = fired & counted, torch.where(counted, moved, 0.0)
            self.counters.add(layer, fired, moved)
        return hidden

    def _single(self, step: _Chosen, hidden: Tensor) -> tuple[Tensor, Tensor]:
        single = step.single
        assert single is not None
        wide = hidden.float()
        if step.uniform:
            along = wide @ single.direction
            shift = single.shift + (along.clamp(single.low, single.high) - along)
            direction = single.direction
        else:
            direction = single.direction[:, None]
            along = torch.bmm(wide, single.direction[:, :, None])[..., 0]
            shift = single.shift[:, None] + (along.clamp(single.low[:, None], single.high[:, None]) - along)
        if step.bounds is not None:
            shift = torch.where(self._inside(step.bounds, hidden.device), shift, 0.0)
        moved = int(torch.count_nonzero(shift)) if hidden.device.type == "cpu" else None
        if moved == 0:
            return hidden, shift
        edited = (wide + shift[..., None] * direction).to(hidden.dtype)
        if moved == shift.numel():
            return edited, shift
        # Adding 0 would turn -0.0 into 0.0: an unmoved token keeps its bits.
        return torch.where((shift != 0)[..., None], edited, hidden), shift

    def _joint(
        self, joint: JointStage, rows: Tensor, bounds: tuple[Tensor, Tensor] | None, hidden: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        part = hidden[rows]
        along = (part.double() @ joint.solver.directions.to(hidden.device).T).cpu()
        low, high = joint.low.expand_as(along), joint.high.expand_as(along)
        if bounds is not None:
            assert self._positions is not None
            place = self._positions.cpu()[rows.cpu()][..., None]
            acts = (place >= bounds[0][:, None]) & (place < bounds[1][:, None])
            low, high = torch.where(acts, low, -torch.inf), torch.where(acts, high, torch.inf)
        shape = along.shape
        move, _ = joint.solver.solve(*(one.reshape(-1, shape[-1]) for one in (along, low, high)))
        move = move.float().reshape(*shape[:-1], -1).to(hidden.device)
        length = torch.linalg.vector_norm(move, dim=-1)
        hit_here = length > 0
        edited = (part.float() + move @ joint.solver.basis.to(hidden.device)).to(hidden.dtype)
        hidden = hidden.clone()
        hidden[rows] = torch.where(hit_here[..., None], edited, part)
        hit = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        hit[rows] = hit_here
        moved = torch.zeros(hidden.shape[:2], dtype=torch.float32, device=hidden.device)
        moved[rows] = length
        return hidden, hit, moved

    def _inside(self, bounds: tuple[Tensor, Tensor], device: torch.device) -> Tensor:
        assert self._positions is not None
        place = self._positions.to(device)
        return (place >= bounds[0].to(device)) & (place < bounds[1].to(device))

    def _choose(self, layer: int, at: int, device: torch.device) -> _Chosen:
        step = self.table.steps(layer)[at]
        joint: list[tuple[JointStage, Tensor, tuple[Tensor, Tensor] | None]] = []
        for one in step.joint:
            rows = [row for row, place in enumerate(self.places) if place == one.plan]
            if rows:
                bounds = None
                if self.extents is not None:
                    pairs = [[self.extents[row].bounds(cap.tokens) for cap in one.caps] for row in rows]
                    starts = torch.tensor([[start for start, _ in row] for row in pairs])
                    stops = torch.tensor([[stop for _, stop in row] for row in pairs])
                    bounds = (starts, stops)
                joint.append((one, torch.tensor(rows, device=device), bounds))
        single = self.table.single(layer, at, device)
        ops = [step.ops[place] for place in self.places]
        if single is None or not any(ops):
            return _Chosen(None, False, False, None, joint)
        bounds = self._bounds(ops)
        uniform = len(set(self.places)) == 1
        index = torch.tensor(self.places[:1] if uniform else self.places, device=device)
        chosen = single.map(lambda tensor: tensor[index[0]] if uniform else tensor[index])
        caps = any(isinstance(op, Cap) for op in ops)
        return _Chosen(chosen, uniform, caps, bounds, joint)

    def _bounds(self, ops: Sequence[Op | None]) -> tuple[Tensor, Tensor] | None:
        """Return first and end position for each row, [rows, 1] each; None if all tokens are acted on."""
        if self.extents is None or all(op is None or op.tokens == "all" for op in ops):
            return None
        pairs = [
            (0, END) if op is None else extent.bounds(op.tokens)
            for op, extent in zip(ops, self.extents, strict=True)
        ]
        starts, stops = zip(*pairs, strict=True)
        return torch.tensor(starts)[:, None], torch.tensor(stops)[:, None]
