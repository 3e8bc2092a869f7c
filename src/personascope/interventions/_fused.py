"""Edit, sum and count the tokens of a step on a CPU by compiled loops, each in place of twenty torch calls.

A decoding step holds a few dozen tokens, for which the calls cost more than the arithmetic. The loops are
compiled by numba, which vLLM installs on a CPU. Without it, and for other dtypes, torch does the same.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor


def edit_rows(
    hidden: Tensor,
    residual: Tensor | None,
    rows: np.ndarray,
    directions: np.ndarray,
    shifts: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    caps: np.ndarray,
    hit: np.ndarray,
    length: np.ndarray,
) -> bool:
    """Move tokens along directions, in place: h + (s + clamp(<h, v>, low, high) - <h, v>) v.

    Where there is a residual, the edited sum is written to it and hidden becomes 0; a token that is not moved
    keeps the bits of both. The numbers are those of torch up to the order of the sum in <h, v>.

    Args:
        hidden: Hidden states, [tokens, d].
        residual: Residual of the same shape, or None.
        rows: Rows of the tokens to move, [rows] int64.
        directions: One direction for all rows, [1, d] float32, or one for each, [rows, d].
        shifts: Shifts s, [1] or [rows] float32.
        lows: Lower bounds, likewise.
        highs: Upper bounds, likewise.
        caps: Whether the operation is a cap, which is counted; likewise, bool.
        hit: Buffer that is set for the tokens on which a cap fired, [tokens] bool.
        length: Buffer to which the length of a cap's move is added, [tokens] float32.

    Returns:
        Whether there is a loop for these tensors; if not, nothing was done.
    """
    loops = _loops_for(hidden, residual)
    if loops is None:
        return False
    at = hidden.data_ptr()
    other = at if residual is None else residual.data_ptr()
    loops[0](at, other, rows, directions, shifts, lows, highs, caps, hit, length)
    return True


def add_rows(
    hidden: Tensor, residual: Tensor | None, rows: np.ndarray, sums: Tensor, slots: np.ndarray
) -> bool:
    """Add tokens to float32 sums, in place.

    Args:
        hidden: Hidden states, [tokens, d].
        residual: Residual of the same shape, or None.
        rows: Rows of the tokens to add, [rows] int64.
        sums: Sums to add to, [slots, d] float32, contiguous.
        slots: Sum to which each token is added, [rows] int64.

    Returns:
        Whether there is a loop for these tensors; if not, nothing was done.
    """
    loops = _loops_for(hidden, residual)
    if loops is None:
        return False
    at = hidden.data_ptr()
    other = at if residual is None else residual.data_ptr()
    loops[1](at, other, rows, sums.data_ptr(), slots, sums.shape[1])
    return True


def count_rows(
    slot_of: Tensor,
    hit: Tensor,
    length: Tensor,
    fired: Tensor,
    moved: Tensor,
    greatest: Tensor,
    capped: Tensor,
) -> bool:
    """Add what the layers of a step found to the counts of its tokens' slots, and reset it to zero.

    Args:
        slot_of: Slot in which each token counts, [tokens] int64.
        hit: Whether a cap fired on each token, [layers, tokens or more] bool.
        length: Length of the move of each token, likewise, float32.
        fired: Number of tokens on which a cap fired, [layers, slots] int64.
        moved: Sums of the lengths, [layers, slots] float64.
        greatest: Greatest length, [slots] float32.
        capped: Number of tokens on which some layer fired, [slots] int64.

    Returns:
        Whether there is a loop for these tensors; if not, nothing was done.
    """
    count = _count_loop() if slot_of.is_cpu else None
    if count is None:
        return False
    count(*(tensor.numpy() for tensor in (slot_of, hit, length, fired, moved, greatest, capped)))
    return True


def compile_loops(dtype: torch.dtype) -> None:
    """Compile the loops for a dtype in advance, because the first call of each would take seconds."""
    stream, sums = torch.zeros(1, 1, dtype=dtype), torch.zeros(1, 1)
    rows, number = np.zeros(1, np.int64), np.zeros(1, np.float32)
    hit, length = np.zeros(1, np.bool_), np.zeros(1, np.float32)
    edit_rows(stream, None, rows, number[None], number, number, number, hit.copy(), hit, length)
    add_rows(stream, None, rows, sums, rows)
    found = torch.from_numpy(hit)[None], torch.from_numpy(length)[None]
    fired, capped = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    count_rows(torch.from_numpy(rows), *found, fired, sums.double(), torch.zeros(1), capped)


def _loops_for(hidden: Tensor, residual: Tensor | None) -> tuple[Any, Any] | None:
    """Return the loops for tensors, or None, in few calls, since these take most of a step's time."""
    dtype = hidden.dtype
    loops = _loops().get(dtype)
    if loops is None or not hidden.is_cpu or not hidden.is_contiguous():
        return None
    if residual is not None and (residual.dtype != dtype or not residual.is_contiguous()):
        return None
    return loops


def keep_llvmlite_readable() -> None:
    """Let a vLLM engine start on a CPU after numba was imported.

    At its start vLLM reads the ``__dict__`` of every object of every module, and numba's library takes any
    unknown name for one of its functions. The start would fail with "'_lib_fn_wrapper' object has no
    attribute 'get'".
    """
    module = sys.modules.get("llvmlite.binding.ffi")
    functions = getattr(getattr(module, "lib", None), "_fntab", None)
    if isinstance(functions, dict):
        functions.setdefault("__dict__", {})


def _pointer(kind: Any) -> Any:
    """Return an intrinsic that turns an address into a pointer to numbers of a kind."""
    from numba import types
    from numba.extending import intrinsic

    def pointer(_typing: Any, address: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), build

    return intrinsic(pointer)


def _compiler() -> Any:
    """Return the decorator that compiles a loop, or None without numba."""
    try:
        from numba import njit
    except ImportError:
        return None
    keep_llvmlite_readable()
    # Sums may be reordered and products fused, so that they are vectorised; nothing else is relaxed.
    return njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@functools.cache
def _count_loop() -> Any:
    """Return the compiled loop that counts, or None without numba."""
    fast = _compiler()
    if fast is None:
        return None

    @fast
    def count(
        slot_of: Any, hit: Any, length: Any, fired: Any, moved: Any, greatest: Any, capped: Any
    ) -> None:
        for i in range(len(slot_of)):
            slot, some = slot_of[i], False
            for layer in range(len(hit)):
                if hit[layer, i]:
                    some = True
                    fired[layer, slot] += 1
                    moved[layer, slot] += length[layer, i]
                    greatest[slot] = max(greatest[slot], length[layer, i])
                    hit[layer, i], length[layer, i] = False, 0
            capped[slot] += some

    return count


@functools.cache
def _loops() -> dict[torch.dtype, tuple[Any, Any]]:
    """Return the compiled loops that edit and that add, by dtype; empty without numba."""
    fast = _compiler()
    if fast is None:
        return {}
    from numba import carray, types

    pointer16, pointer32 = _pointer(types.uint16), _pointer(types.float32)
    sixteen, one = np.uint32(16), np.uint32(1)
    half, upper = np.uint32(0x7FFF), np.uint32(0xFFFF0000)

    @fast
    def read_bfloat16(h: Any, r: Any, pair: bool, wide: Any, rest: Any) -> None:
        """Write one token in float32 into ``wide``; ``rest`` is a buffer of the same size."""
        bits, other = wide.view(np.uint32), rest.view(np.uint32)
        for j in range(len(h)):
            bits[j] = np.uint32(h[j]) << sixteen
        if not pair:
            return
        for j in range(len(h)):
            other[j] = np.uint32(r[j]) << sixteen
        for j in range(len(h)):
            wide[j] += rest[j]
        # Round the sum to bfloat16, to nearest with ties to even.
        for j in range(len(h)):
            bits[j] = (bits[j] + half + ((bits[j] >> sixteen) & one)) & upper

    @fast
    def write_bfloat16(into: Any, wide: Any) -> None:
        bits = wide.view(np.uint32)
        for j in range(len(into)):
            into[j] = np.uint16((bits[j] + half + ((bits[j] >> sixteen) & one)) >> sixteen)

    @fast
    def read_float32(h: Any, r: Any, pair: bool, wide: Any, _rest: Any) -> None:
        wide[:] = h
        if pair:
            wide += r

    @fast
    def write_float32(into: Any, wide: Any) -> None:
        into[:] = wide

    @fast
    def moved_by(wide: Any, direction: Any, shift: Any, low: Any, high: Any) -> Any:
        along = np.float32(0)
        for j in range(len(wide)):
            along += wide[j] * direction[j]
        return shift + (min(max(along, low), high) - along)

    def loops_of(pointer: Any, read: Any, write: Any) -> tuple[Any, Any]:
        @fast
        def edit(
            at: int, other_at: int, rows: Any, directions: Any, shifts: Any, lows: Any, highs: Any, caps: Any,
            hit: Any, length: Any,
        ) -> None:  # fmt: skip
            shape = (rows.max() + 1, directions.shape[1])
            hidden, residual = carray(pointer(at), shape), carray(pointer(other_at), shape)
            pair = at != other_at
            wide, rest = np.empty(shape[1], np.float32), np.empty(shape[1], np.float32)
            for i in range(len(rows)):
                h, r = hidden[rows[i]], residual[rows[i]]
                k = i if len(directions) > 1 else 0
                read(h, r, pair, wide, rest)
                by = moved_by(wide, directions[k], shifts[k], lows[k], highs[k])
                if by == 0:
                    continue
                if caps[k]:
                    hit[rows[i]] = True
                    length[rows[i]] += abs(by)
                for j in range(len(wide)):
                    wide[j] += by * directions[k, j]
                write(r, wide)
                if pair:
                    h[:] = 0

        @fast
        def add(at: int, other_at: int, rows: Any, sums_at: int, slots: Any, d: int) -> None:
            shape = (rows.max() + 1, d)
            hidden, residual = carray(pointer(at), shape), carray(pointer(other_at), shape)
            sums = carray(pointer32(sums_at), (slots.max() + 1, d))
            wide, rest = np.empty(d, np.float32), np.empty(d, np.float32)
            for i in range(len(rows)):
                read(hidden[rows[i]], residual[rows[i]], at != other_at, wide, rest)
                into = sums[slots[i]]
                for j in range(d):
                    into[j] += wide[j]

        return edit, add

    return {
        torch.bfloat16: loops_of(pointer16, read_bfloat16, write_bfloat16),
        torch.float32: loops_of(pointer32, read_float32, write_float32),
    }
