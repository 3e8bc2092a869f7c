"""The loops over a step's tokens against torch: the same numbers, and every bit of what is left alone."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from folder_case import saved

from personascope.engines import Request, Sampling, load_engine
from personascope.interventions import (
    Cap,
    PackedCapCounters,
    PackedPlans,
    Plan,
    Segment,
    Steer,
    TokenSpans,
    add_rows,
    compile_loops,
)
from personascope.interventions._fused import _count_loop, _loops, edit_rows

pytestmark = pytest.mark.skipif(
    find_spec("numba") is None, reason="numba is not installed here; vLLM brings it along on a CPU"
)

ROUNDOFF = {torch.float32: 1e-6, torch.bfloat16: 2.0**-8}


def streams(rng: np.random.Generator, dtype: torch.dtype, *, pair: bool):
    hidden, residual = (torch.from_numpy(rng.normal(size=(23, 96)) * 3).to(dtype) for _ in range(2))
    # Bits that arithmetic would not keep.
    hidden[:, :2], residual[:, :2] = -0.0, -0.0
    return hidden, residual if pair else None


@pytest.mark.parametrize("dtype", list(ROUNDOFF))
@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("each", [True, False])
def test_tokens_move_as_in_torch_and_others_keep_every_bit(dtype, pair, each):
    rng = np.random.default_rng(5)
    hidden, residual = streams(rng, dtype, pair=pair)
    before = hidden.clone(), None if residual is None else residual.clone()
    rows = np.sort(rng.choice(23, 14, replace=False)).astype(np.int64)
    count = len(rows) if each else 1
    directions = rng.normal(size=(count, 96)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shifts = np.zeros(count, np.float32)
    lows, highs = np.full(count, -1.0, np.float32), np.full(count, 2.0, np.float32)
    caps = np.ones(count, bool)
    if each:
        # A steering, an ablation and caps in one batch.
        shifts[0], lows[0], highs[0], caps[0] = 1.5, -np.inf, np.inf, False
        lows[1], highs[1], caps[1] = 0.0, 0.0, False
    hit, length = np.zeros(25, bool), np.zeros(25, np.float32)
    assert edit_rows(hidden, residual, rows, directions, shifts, lows, highs, caps, hit, length)
    stream = before[0] if before[1] is None else before[0] + before[1]
    wide = stream[torch.from_numpy(rows)].float()
    v, low, high, shift = (torch.from_numpy(x) for x in (directions, lows, highs, shifts))
    along = (wide * v).sum(-1)
    by = shift + (torch.minimum(torch.maximum(along, low), high) - along)
    want = wide + by[:, None] * v
    assert 0 < int((by == 0).sum()) < len(rows)
    after = hidden if residual is None else residual
    for place, row in enumerate(rows):
        if by[place] == 0:
            continue
        torch.testing.assert_close(
            after[row].float(), want[place], rtol=ROUNDOFF[dtype], atol=ROUNDOFF[dtype] * 3
        )
        assert residual is None or not bool(hidden[row].any())
    is_cap = torch.from_numpy(np.broadcast_to(caps, len(rows)).copy())
    assert hit[rows].tolist() == ((by != 0) & is_cap).tolist()
    np.testing.assert_allclose(length[rows], torch.where(is_cap, by.abs(), 0.0), rtol=1e-4, atol=1e-5)
    others = np.delete(np.arange(25), rows)
    assert not hit[others].any() and not length[others].any()
    still = sorted(set(range(23)) - {int(row) for row, b in zip(rows, by, strict=True) if b != 0})
    kind = torch.int16 if dtype == torch.bfloat16 else torch.int32
    for now, then in ((hidden, before[0]), (residual, before[1])):
        if now is not None and then is not None:
            assert torch.equal(now[still].view(kind), then[still].view(kind))


@pytest.mark.parametrize("dtype", list(ROUNDOFF))
@pytest.mark.parametrize("pair", [True, False])
def test_tokens_are_added_to_their_slots(dtype, pair):
    rng = np.random.default_rng(6)
    hidden, residual = streams(rng, dtype, pair=pair)
    sums = torch.from_numpy(rng.normal(size=(9, 96))).float()
    rows = np.array([0, 3, 4, 11, 22], np.int64)
    slots = np.array([2, 2, 8, 0, 2], np.int64)
    stream = hidden if residual is None else hidden + residual
    want = sums.clone().index_add_(0, torch.from_numpy(slots), stream[torch.from_numpy(rows)].float())
    assert add_rows(hidden, residual, rows, sums, slots)
    torch.testing.assert_close(sums, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", list(ROUNDOFF))
@pytest.mark.parametrize("each", [True, False])
def test_nothing_is_compiled_when_requests_run(dtype, each):
    compile_loops(dtype)
    loops = (*_loops()[dtype], _count_loop())
    before = [len(loop.signatures) for loop in loops]
    rng = np.random.default_rng(7)
    hidden, residual = streams(rng, dtype, pair=True)
    plans = [
        Plan((Cap(0, rng.normal(size=96), floor=50.0), Steer(0, np.ones(96), strength=1.0))) for _ in range(2)
    ]
    segments = [
        Segment(plans[n * each], TokenSpans(1), slot=n + 1, start=5, row=2 * n, tokens=1, counted=0)
        for n in range(2)
    ]
    counters = PackedCapCounters(32, torch.device("cpu"))
    flat = PackedPlans(counters, torch.device("cpu"))
    flat.begin(segments, [])
    flat(0, hidden, residual)
    counters.finish()
    assert [counters.counts(n + 1, 1).fired[0] for n in range(2)] == [1, 1]
    assert add_rows(hidden, residual, np.arange(3), torch.zeros(3, 96), np.arange(3))
    assert [len(loop.signatures) for loop in loops] == before == [1, 1, 1]


def test_what_has_no_loop_is_left_to_torch():
    hidden = torch.ones(4, 8)
    one = np.ones(1, np.float32)
    found = np.zeros(4, bool), np.zeros(4, np.float32)
    rest = (np.arange(4), np.ones((1, 8), np.float32), one, one, one, np.ones(1, bool), *found)
    assert not edit_rows(hidden.half(), None, *rest)
    assert not edit_rows(hidden.t(), None, *rest)
    assert not add_rows(hidden.half(), None, np.arange(4), torch.zeros(4, 8), np.arange(4))
    assert torch.equal(hidden, torch.ones(4, 8))


def test_an_engine_starts_where_numba_was_imported_before(tmp_path):
    import numba  # noqa: F401

    folder = saved("llama", tmp_path / "llama")
    engine = load_engine(str(folder), engine="vllm", dtype="float32", max_batch=4)
    try:
        sampling = Sampling(temperature=0, max_new_tokens=2)
        (done,) = engine.run([Request("r", engine.encode("Who are you?"), sampling)])
        assert len(done.token_ids) == 2
    finally:
        engine.close()
