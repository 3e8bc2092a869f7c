"""One Triton kernel for each instrumented layer: edit, sum and project, a program for each token.

Everything that changes from step to step is data in buffers that stay where they are, so that a recorded
CUDA graph does the right thing when it is replayed. A program whose token has nothing to do leaves at once.
"""

# pyright: standard, reportMissingImports=false
# A kernel's arguments are Triton's, which has no types.
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class StepBuffers:
    """What each token of a step is about; all [tokens] int32.

    Attributes:
        place: The plan's row in the table, 0 for none.
        active: Bit b is set where the plan's b-th part of the sequence holds the token.
        count_slot: Slot of the plan's counts, 0 for nowhere.
        pool: Slot of the sums, 0 for nowhere.
        probes: Row of the probe table, 0 for none.
    """

    place: Tensor
    active: Tensor
    count_slot: Tensor
    pool: Tensor
    probes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LayerBuffers:
    """One layer's tables and sums.

    Attributes:
        direction: [plans, ops, d] float32.
        shift: [plans, ops] float32, as are low and high.
        low: Floors.
        high: Ceilings.
        cap: [plans, ops] int32, whether the operation is a cap.
        bit: [plans, ops] int32, the part of the sequence on which it acts; -1 for no operation.
        fired: [slots] int32.
        moved: [slots] float32.
        sums: [slots, d] float32.
        norms: Sums of the tokens' norms, [slots] float32.
        vectors: [probe rows, probes of a layer, d] float32.
        columns: [probe rows, probes of a layer] int32, the column of the result; -1 for no probe.
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
        hidden: [tokens, d].
        residual: [tokens, d], or None where hidden is the stream.
        step: Buffers that say what each token of the step is part of.
        layer: The layer's tables.
        greatest: Greatest move of each slot, [slots] float32.
        any_fired: Tokens on which a cap fired at some layer, [tokens] int32.
        projected: [tokens, columns] float32.
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
    # Triton's interpreter takes no mask that is made with & of a vector and a number.
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
        # The sum as the model itself would hold it, in its own dtype.
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
    # Caps of a layer that hold together are on orthogonal directions here: their moves add up so.
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
