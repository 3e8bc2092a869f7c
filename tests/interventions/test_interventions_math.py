"""The math of operations: bounds held, untouched bits, nothing orthogonal moved, rows kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plan_case import apply_plainly, nearest, random_op, random_plan, unit

from personascope.interventions import (
    Ablate,
    BatchedPlans,
    Cap,
    CapCounters,
    CapStats,
    Plan,
    PlanTable,
    Steer,
    TokenSpans,
    tokens_acted_on,
)

ROUNDOFF = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
"""Unit roundoff of each dtype: casting the result back moves it by no more than this times its norm."""


def run(
    plans: list[Plan | None],
    hidden: torch.Tensor,
    layer: int,
    extents: list[TokenSpans] | None = None,
) -> tuple[torch.Tensor, CapCounters]:
    distinct = {plan.digest: plan for plan in plans if plan is not None}
    counters = CapCounters(len(plans))
    table = PlanTable(list(distinct.values()), response_only=extents is None)
    edit = BatchedPlans(table, plans, counters, extents)
    if extents is not None:
        edit.at(torch.arange(hidden.shape[1]).expand(hidden.shape[:2]), None)
    out = edit(layer, hidden) if layer in edit.layers else hidden
    counters.finish()
    return out, counters


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Cap], torch.Tensor]:
    """Caps on one to four random directions, often close to each other, and activations."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d = draw(st.integers(4, 40))
    k = draw(st.integers(1, 4))
    dtype = draw(st.sampled_from(list(ROUNDOFF)))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    scale = draw(st.sampled_from([1.0, 30.0]))
    common = unit(rng, d)
    mix = draw(st.sampled_from([0.0, 0.5, 0.9]))
    caps = []
    for _ in range(k):
        direction = mix * common + (1 - mix) * unit(rng, d)
        low = float(rng.normal() * scale)
        high = low + float(abs(rng.normal()) * scale)
        bounds = [(low, None), (None, high), (low, high)][int(rng.integers(3))]
        caps.append(Cap(0, direction, *bounds))
    hidden = torch.from_numpy(rng.normal(size=(*shape, d)) * scale).to(dtype)
    return caps, hidden


NEARLY_PARALLEL = [
    Cap(0, np.array([0.8442492, 0.43561333, 0.11942866, 0.2884808]), -1.5717559, -0.80695997),
    Cap(0, np.array([0.8729387, 0.3520035, -0.01583716, 0.33737335]), floor=1.0734233),
    Cap(0, np.array([0.87149674, 0.35008654, -0.03470722, 0.34165516]), 0.45878207, 1.1105727),
]
"""The nearest point takes coefficients of some thousands that nearly cancel; float32 sums miss the bounds."""


@settings(max_examples=150, deadline=None)
@given(cases())
@example(
    (
        NEARLY_PARALLEL,
        torch.tensor([[[-0.1985, 1.1663, -0.0912, -1.1608], [1.5185, -1.8241, 0.7463, 1.3358]]]),
    )
)
def test_caps_hold_touch_nothing_else_and_go_the_shortest_way(case: tuple[list[Cap], torch.Tensor]) -> None:
    caps, hidden = case
    out, counters = run([Plan(tuple(caps))] * hidden.shape[0], hidden.clone(), 0)
    assert out.dtype == hidden.dtype
    directions = np.stack([cap.direction for cap in caps]).astype(np.float64)
    before, after = hidden.double().numpy(), out.double().numpy()
    # Sums of d products in float32 before the cast, and the cast itself.
    lengths = np.linalg.norm(after, axis=-1) + np.linalg.norm(before, axis=-1)
    room = (ROUNDOFF[hidden.dtype] + 4e-6) * lengths
    inside = np.ones(hidden.shape[:2], bool)
    for cap, direction in zip(caps, directions, strict=True):
        for bound, sign in ((cap.floor, 1.0), (cap.ceiling, -1.0)):
            if bound is not None:
                assert (sign * (after @ direction - bound) >= -room - 1e-6 * abs(bound)).all()
                inside &= sign * (before @ direction - bound) > room
    same_bits = (out == hidden).all(-1).numpy()
    assert same_bits[inside].all()
    basis = np.linalg.qr(directions.T)[0]
    move = after - before
    across = move - move @ basis @ basis.T
    assert (np.linalg.norm(across, axis=-1) <= room + 1e-6).all()
    for place in np.ndindex(hidden.shape[:2]):
        wanted = nearest(before[place], caps)
        error = np.linalg.norm(after[place] - wanted)
        assert error <= room[place] * 4 + 2e-5 * (1 + np.linalg.norm(wanted))
    total = sum(counters.counts(row, 0).capped for row in range(hidden.shape[0]))
    assert total >= (np.linalg.norm(move, axis=-1) > room).sum()


@pytest.mark.parametrize("dtype", list(ROUNDOFF))
def test_a_token_above_the_floor_keeps_every_bit_even_the_sign_of_zero(dtype: torch.dtype) -> None:
    hidden = torch.tensor([[[-0.0, 5.0, 0.0, 1e-3], [0.0, -5.0, -0.0, 1e-3]]], dtype=dtype)
    out, counters = run([Plan((Cap(0, np.array([0.0, 1.0, 0.0, 0.0]), floor=1.0),))], hidden.clone(), 0)
    width = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(out[0, 0].view(width), hidden[0, 0].view(width))
    torch.testing.assert_close(out[0, 1].float(), torch.tensor([0.0, 1.0, 0.0, 1e-3]), atol=1e-6, rtol=1e-3)
    counts = counters.counts(0, 2)
    assert (counts.capped, counts.fired, counts.moved, counts.greatest) == (1, {0: 1}, {0: 6.0}, 6.0)


@pytest.mark.parametrize("seed", range(8))
def test_every_row_gets_its_own_plan_at_its_own_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers, d, rows, tokens = 3, 12, 9, 7
    kinds = ("all", "prompt", "response", "turn:1")
    plans = [
        None if i % 4 == 3 else random_plan(rng, layers, d, int(rng.integers(1, 5)), kinds)
        for i in range(rows)
    ]
    plans[5] = plans[0]
    # Two caps next to each other hold together, each at its own tokens.
    plans[8] = Plan((Cap(1, unit(rng, d), floor=1.0), Cap(1, unit(rng, d), ceiling=-0.5, tokens="response")))
    extents = [TokenSpans(int(rng.integers(1, tokens)), (0, int(rng.integers(0, 3)))) for _ in range(rows)]
    for layer in range(layers):
        hidden = torch.from_numpy(rng.normal(size=(rows, tokens, d))).float()
        out, _ = run(plans, hidden.clone(), layer, extents)
        for row, plan in enumerate(plans):
            for token in range(tokens):
                h = hidden[row, token].numpy()
                wanted = h if plan is None else apply_plainly(plan, layer, h, token, extents[row])
                np.testing.assert_allclose(out[row, token].numpy(), wanted, atol=2e-5)
            if plan is None:
                assert torch.equal(out[row], hidden[row])


def test_rows_do_not_depend_on_who_runs_beside_them() -> None:
    rng = np.random.default_rng(1)
    plans = [Plan((random_op(rng, 0, 16),)) for _ in range(6)]
    hidden = torch.from_numpy(rng.normal(size=(6, 1, 16))).float()
    together, _ = run([*plans], hidden.clone(), 0)
    for row, plan in enumerate(plans):
        alone, _ = run([plan], hidden[row : row + 1].clone(), 0)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-6)


def test_the_response_table_leaves_operations_on_the_prompt_out() -> None:
    v = np.eye(4)[0]
    plan = Plan((Steer(0, v, 1.0, tokens="prompt"), Ablate(1, v, tokens="prompt"), Steer(1, v, 2.0)))
    table = PlanTable([plan], response_only=True)
    assert table.layers == {1}
    hidden = torch.zeros(1, 1, 4)
    out, _ = run([plan], hidden, 1)
    assert out[0, 0, 0] == 2.0


def test_operations_of_a_layer_act_in_order() -> None:
    v = np.eye(3)[0]
    capped_last = Plan((Steer(0, v, -5.0), Cap(0, v, floor=0.0)))
    steered_last = Plan((Cap(0, v, floor=0.0), Steer(0, v, -5.0)))
    hidden = torch.zeros(2, 1, 3)
    out, counters = run([capped_last, steered_last], hidden, 0)
    assert out[:, 0, 0].tolist() == [0.0, -5.0]
    assert [counters.counts(row, 1).capped for row in (0, 1)] == [1, 0]


def test_tokens_acted_on_counts_overlapping_parts_once() -> None:
    v = np.eye(3)[0]
    plan = Plan((Steer(0, v, 1.0, tokens="turn:1"), Cap(1, v, floor=0.0, tokens="response")))
    assert tokens_acted_on(plan, TokenSpans(6, (0, 4)), 0, 10) == 6
    assert tokens_acted_on(plan, TokenSpans(6, (0, 4)), 5, 10) == 5
    assert tokens_acted_on(Plan((Steer(0, v, 1.0, tokens="prompt"),)), TokenSpans(6), 2, 10) == 4


def test_the_firing_share_of_nothing_is_zero() -> None:
    assert CapStats(0).firing_share == 0.0
    assert CapStats(8, 2).firing_share == 0.25


def test_two_copies_of_a_direction_that_differ_by_rounding_still_hold_together() -> None:
    rng = np.random.default_rng(3)
    v = unit(rng, 64)
    copy = v + 1e-7 * unit(rng, 64)
    caps = (Cap(0, v, floor=1.0), Cap(0, copy / np.linalg.norm(copy), ceiling=1.0))
    # Far out both bounds cannot hold to rounding at once: the least miss is taken, never no move at all.
    hidden = torch.from_numpy(rng.normal(size=(1, 16, 64)) * 1e4).float()
    out, counters = run([Plan(caps)], hidden.clone(), 0)
    along = out.double().numpy() @ v
    room = ROUNDOFF[torch.float32] * 8 * np.linalg.norm(hidden.numpy(), axis=-1)
    assert (np.abs(along - 1.0) <= room + 1e-6).all()
    assert counters.counts(0, 16).capped == 16
