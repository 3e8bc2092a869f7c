"""One Triton kernel per instrumented layer that edits, sums and projects, with one program per token.

Everything that changes from step to step is data in buffers with fixed addresses, so that a recorded CUDA
graph can be replayed. A program whose token needs nothing returns at once.
"""

# pyright: standard, reportMissingImports=false
# The arguments of a kernel have Triton's types, which are not annotated.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StepBuffers:
    """Plan, slots and probes of each token of a step; all [tokens] int32.

    Attributes:
        place: Row of the plan in the table; 0 for no plan.
        active: Bit mask in which bit b is set if the token is in the plan's b-th part of the sequence.
        count_slot: Slot of the plan's cap counts; 0 for none.
        pool: Slot of the sums; 0 for none.
        probes: Row of the probe table; 0 for none.
    """

    place: Tensor
    active: Tensor
    count_slot: Tensor
    pool: Tensor
    probes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerBuffers:
    """Tables and sums of one layer.

    Attributes:
        direction: Direction of each operation, [plans, ops, d] float32.
        shift: Steering amount of each operation, [plans, ops] float32.
        low: Floor of each operation, [plans, ops] float32.
        high: Ceiling of each operation, [plans, ops] float32.
        cap: Whether each operation is a cap, [plans, ops] int32.
        bit: Part of the sequence on which each operation acts, [plans, ops] int32; -1 for no operation.
        fired: Number of tokens on which caps fired, [slots] int32.
        moved: Sum of the lengths of the caps' moves, [slots] float32.
        sums: Sums of the residual stream, [slots, d] float32.
        norms: Sums of the tokens' norms, [slots] float32.
        vectors: Directions of the probes, [probe rows, probes of a layer, d] float32.
        columns: Column of each probe's result, [probe rows, probes of a layer] int32; -1 for no probe.
    """

    direction: Tensor
    shift: Tensor
    low: Tensor
    high: Tensor
    cap: Tensor
    bit: Tensor
    fired: Tensor
    moved: Tensor
    sums: Tensor
    norms: Tensor
    vectors: Tensor
    columns: Tensor


def run_layer(
    hidden: Tensor,
    residual: Tensor | None,
    step: StepBuffers,
    layer: LayerBuffers,
    greatest: Tensor,
    any_fired: Tensor,
    projected: Tensor,
) -> None:
    """Edit and read the residual stream of a layer in place.

    Args:
        hidden: Residual stream, or its part to be added to ``residual``, [tokens, d].
        residual: Other part of the stream, [tokens, d]; None if ``hidden`` is the whole stream.
        step: Plan, slots and probes of each token.
        layer: Tables and sums of the layer.
        greatest: Greatest move of each slot, [slots] float32.
        any_fired: Whether a cap fired on each token at some layer, [tokens] int32.
        projected: Projections of each token, [tokens, columns] float32.
    """
    d_model = hidden.shape[-1]
    block = triton.next_power_of_2(d_model)
    kernel: Any = _layer
    kernel[(hidden.shape[0],)](
        hidden,
        hidden if residual is None else residual,
        step.place,
        step.active,
        step.count_slot,
        step.pool,
        step.probes,
        layer.direction,
        layer.shift,
        layer.low,
        layer.high,
        layer.cap,
        layer.bit,
        layer.fired,
        layer.moved,
        layer.sums,
        layer.norms,
        layer.vectors,
        layer.columns,
        greatest,
        any_fired,
        projected,
        d_model,
        projected.shape[1],
        PAIR=residual is not None,
        OPS=layer.shift.shape[1],
        PROBES=layer.columns.shape[1],
        BLOCK=block,
        num_warps=4 if block <= 4096 else 8,
    )


@triton.jit
def _both(mask, flag):
    # Triton's interpreter does not accept a mask made by & of a vector and a scalar.
    return tl.where(flag, mask.to(tl.int32), 0) > 0


@triton.jit
def _layer(
    hidden,
    residual,
    place,
    active,
    count_slot,
    pool,
    probes,
    direction,
    shift,
    low,
    high,
    cap,
    bit,
    fired,
    moved,
    sums,
    norms,
    vectors,
    columns,
    greatest,
    any_fired,
    projected,
    d_model,
    n_columns,
    PAIR: tl.constexpr,  # noqa: N803
    OPS: tl.constexpr,  # noqa: N803
    PROBES: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    token = tl.program_id(0)
    plan = tl.load(place + token)
    slot = tl.load(pool + token)
    asked = tl.load(probes + token)
    if (plan == 0) & (slot == 0) & (asked == 0):
        return
    at = tl.arange(0, BLOCK)
    inside = at < d_model
    row = token.to(tl.int64) * d_model
    part = tl.load(hidden + row + at, mask=inside, other=0.0)
    stream = part.to(tl.float32)
    if PAIR:
        rest = tl.load(residual + row + at, mask=inside, other=0.0)
        # The sum is rounded to the model's dtype, as the model itself holds it.
        stream = (stream + rest.to(tl.float32)).to(part.dtype).to(tl.float32)
    bits = tl.load(active + token)
    changed = 0
    squares = 0.0
    for op in tl.static_range(OPS):
        index = plan * OPS + op
        which = tl.load(bit + index)
        held = (bits >> tl.maximum(which, 0)) & 1
        acts = tl.where((plan > 0) & (which >= 0), held, 0) > 0
        vector = tl.load(direction + index.to(tl.int64) * d_model + at, mask=_both(inside, acts), other=0.0)
        along = tl.sum(stream * vector, axis=0)
        bounded = tl.minimum(tl.maximum(along, tl.load(low + index)), tl.load(high + index))
        move = tl.where(acts, tl.load(shift + index) + bounded - along, 0.0)
        hit = move != 0.0
        edited = (stream + move * vector).to(part.dtype).to(tl.float32)
        stream = tl.where(hit, edited, stream)
        changed = tl.where(hit, 1, changed)
        squares += tl.where(hit & (tl.load(cap + index) == 1), move * move, 0.0)
    # Joint caps of a layer have orthogonal directions here, so the squares of their moves add up.
    length = tl.sqrt(squares)
    touched = changed == 1
    if PAIR:
        tl.store(residual + row + at, stream.to(part.dtype), mask=_both(inside, touched))
        tl.store(hidden + row + at, tl.zeros([BLOCK], part.dtype), mask=_both(inside, touched))
    else:
        tl.store(hidden + row + at, stream.to(part.dtype), mask=_both(inside, touched))
    counted = tl.load(count_slot + token)
    fires = (squares > 0.0) & (counted > 0)
    tl.atomic_add(fired + counted, 1, mask=fires)
    tl.atomic_add(moved + counted, length, mask=fires)
    tl.atomic_max(greatest + counted, length, mask=fires)
    tl.store(any_fired + token, 1, mask=fires)
    tl.atomic_add(sums + slot.to(tl.int64) * d_model + at, stream, mask=_both(inside, slot > 0))
    norm = tl.sqrt(tl.sum(stream * stream, axis=0))
    tl.atomic_add(norms + slot, norm, mask=slot > 0)
    for number in tl.static_range(PROBES):
        index = asked * PROBES + number
        column = tl.load(columns + index)
        wanted = (asked > 0) & (column >= 0)
        vector = tl.load(vectors + index.to(tl.int64) * d_model + at, mask=_both(inside, wanted), other=0.0)
        value = tl.sum(stream * vector, axis=0)
        tl.store(projected + token.to(tl.int64) * n_columns + tl.maximum(column, 0), value, mask=wanted)
