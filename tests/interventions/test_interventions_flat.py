"""Plans in a continuously batched step against the same plans on padded rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.interventions import (
    Ablate,
    BatchedPlans,
    Cap,
    CapCounters,
    PackedCapCounters,
    PackedPlans,
    Plan,
    PlanTable,
    Segment,
    Steer,
    TokenSpans,
)

D = 12


def drawn_plan(rng: np.random.Generator) -> Plan:
    def where() -> str:
        return str(rng.choice(["all", "prompt", "response", "turn:1"]))

    ops = []
    for layer in range(2):
        for _ in range(int(rng.integers(0, 4))):
            v = rng.standard_normal(D).astype(np.float32)
            kind = int(rng.integers(3))
            if kind == 0:
                ops.append(Steer(layer, v, strength=float(rng.normal()), tokens=where()))
            elif kind == 1:
                ops.append(Ablate(layer, v, to=float(rng.normal()), tokens=where()))
            else:
                ops.append(Cap(layer, v, floor=float(rng.normal()), tokens=where()))
    return Plan(tuple(ops) or (Cap(0, np.ones(D, np.float32), floor=0.0),))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000), pair=st.booleans(), dtype=st.sampled_from([torch.float32, torch.bfloat16])
)
def test_flat_tokens_equal_padded_rows(seed, pair, dtype):
    rng = np.random.default_rng(seed)
    plans = [drawn_plan(rng) for _ in range(int(rng.integers(1, 4)))]
    chosen = [None if rng.random() < 0.3 else plans[int(rng.integers(len(plans)))] for _ in range(5)]
    lengths = [int(n) for n in rng.integers(1, 7, 5)]
    starts = [int(n) for n in rng.integers(0, 9, 5)]
    extents = [TokenSpans(int(rng.integers(1, 12)), (0, 3)) for _ in range(5)]
    seen = [start + int(rng.integers(0, 3)) for start in starts]
    total, width = sum(lengths), max(lengths)
    device = torch.device("cpu")

    rows = np.concatenate([[0], np.cumsum(lengths)])
    segments = [
        Segment(plan, extents[n], n + 1, starts[n], int(rows[n]), lengths[n], seen[n])
        for n, plan in enumerate(chosen)
        if plan is not None
    ]
    counters = PackedCapCounters(total + 3, device)
    flat = PackedPlans(counters, device)
    flat.begin(segments, [])

    lone = CapCounters(5)
    table = PlanTable(list({p.digest: p for p in plans}.values()), response_only=False)
    padded = BatchedPlans(table, chosen, lone, extents)
    places = torch.arange(width)[None, :] + torch.tensor(starts)[:, None]
    inside = torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
    padded.at(places, inside & (places >= torch.tensor(seen)[:, None]))

    for layer in range(2):
        stream = torch.from_numpy(rng.standard_normal((total + 3, D)) * 2).to(dtype)
        rest = torch.from_numpy(rng.standard_normal((total + 3, D))).to(dtype) if pair else None
        hidden, residual = stream.clone(), None if rest is None else rest.clone()
        flat(layer, hidden, residual)
        before = stream if rest is None else stream + rest
        after = hidden if residual is None else hidden + residual
        want = torch.zeros(5, width, D, dtype=dtype)
        for n, length in enumerate(lengths):
            want[n, :length] = before[rows[n] : rows[n] + length]
        if layer in padded.layers:
            want = padded(layer, want)
        for n, length in enumerate(lengths):
            part = after[rows[n] : rows[n] + length]
            tolerance = 1e-5 if dtype == torch.float32 else 0.1
            assert torch.allclose(part.float(), want[n, :length].float(), atol=tolerance)
            same = (want[n, :length] == before[rows[n] : rows[n] + length]).all(-1)
            if chosen[n] is None or dtype == torch.float32:
                # Bits of hidden and residual both, not of their sum alone.
                here = slice(int(rows[n]), int(rows[n]) + length)
                assert torch.equal(hidden[here][same], stream[here][same])
                if residual is not None and rest is not None:
                    assert torch.equal(residual[here][same], rest[here][same])
        assert torch.equal(hidden[total:], stream[total:])
    counters.finish()
    lone.finish()
    for n, plan in enumerate(chosen):
        if plan is None:
            continue
        a, b = counters.counts(n + 1, 0), lone.counts(n, 0)
        if dtype == torch.float32:
            assert a.capped == b.capped
            assert {k: v for k, v in a.fired.items() if v} == {k: v for k, v in b.fired.items() if v}
            assert a.greatest == pytest.approx(b.greatest, abs=1e-4)


def test_counts_of_many_layers_do_not_disturb_each_other():
    v = np.eye(D, dtype=np.float32)
    wide = Plan((Cap(0, v[0], floor=9.0), Cap(0, v[1] + v[0], floor=9.0), Cap(1, v[2], floor=9.0)))
    late = Plan((Cap(1, v[3], floor=9.0),))
    counters = PackedCapCounters(8, torch.device("cpu"))
    flat = PackedPlans(counters, torch.device("cpu"))
    extent = TokenSpans(1)
    segments = [Segment(wide, extent, 1, 4, 0, 2, 0), Segment(late, extent, 2, 4, 2, 3, 5)]
    for _ in range(3):
        flat.begin(segments, [])
        for layer in (0, 1):
            flat(layer, torch.zeros(6, D), torch.zeros(6, D))
        counters.finish()
    assert (counters.counts(1, 0).capped, counters.counts(2, 0).capped) == (6, 6)
    assert counters.counts(2, 0).fired[1] == 6
    counters.grow(200)
    counters.clear(1)
    assert (counters.counts(1, 0).capped, counters.counts(2, 0).capped) == (0, 6)
