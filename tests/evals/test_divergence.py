"""The price of a plan: KL divergence from no plan, estimated on what the model says without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eval_case import engine, tiny_run
from personascope.calibration import Sample
from personascope.chat import Message
from personascope.errors import EvaluationError, StoreError, UsageError
from personascope.evals import PLAIN, Condition, divergence, run_divergence
from personascope.interventions import Plan, Steer
from personascope.models import steered as under_plan
from personascope.store import RunFolder

CHATS = [(Message("user", f"What is {what}?"),) for what in ("rain", "the sea", "a law", "tea", "sleep")]


def steered(strength: float, name: str = "") -> Condition:
    axis = Sample.open(tiny_run()).persona_map.unit_axis(2)
    return Condition(name or f"steer {strength:g}", "plan", Plan((Steer(2, axis, strength),), name="s"))


def test_the_estimate_is_the_divergence_of_the_distributions() -> None:
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4])
    exact = float((p * np.log(p / q)).sum())
    tokens = rng.choice(3, size=(400, 50), p=p)
    found = divergence(list(np.log(p)[tokens]), list(np.log(q)[tokens]))
    assert found.low < exact < found.high
    assert found.estimate == pytest.approx(exact, rel=0.03)
    assert (found.n, found.n_clusters) == (20_000, 400)
    # Every token counts alike, so a long chat counts for more than a short one.
    a, b = np.log(np.full(9, 0.5)), np.log(np.full(1, 0.5))
    uneven = divergence([a, b], [a - 1, b])
    assert uneven.estimate == pytest.approx(0.9 * (np.exp(-1) - 1 + 1))
    with pytest.raises(EvaluationError):
        divergence([a], [a * np.nan])


def test_a_run_agrees_with_the_full_distributions_of_the_model(tmp_path: Path) -> None:
    made = engine()
    plan = steered(3.0)
    (found,) = run_divergence(made, [PLAIN, plan], out=tmp_path, chats=CHATS * 12, max_new_tokens=24)
    # Exactly: the divergence of the two distributions at every token, along the very answers of the run.
    table = RunFolder.read(tmp_path).rows(0)
    assert plan.plan is not None
    exact: list[float] = []
    for id, answer in zip(table["trial"].to_pylist(), table["token_ids"].to_pylist(), strict=True):
        chat = (CHATS * 12)[int(id.removeprefix("chat/"))]
        prompt = made.loaded.chat.render_with_spans(chat, add_generation_prompt=True).token_ids
        exact += _kl_along(made, prompt, tuple(answer), plan.plan)
    assert found.kl.n == len(exact)
    # The answers leave out the end-of-turn token, which a random model draws once in hundreds of tokens.
    assert found.kl.low < float(np.mean(exact)) * 1.05 and found.kl.high > float(np.mean(exact)) * 0.95


def _kl_along(made, prompt: tuple[int, ...], answer: tuple[int, ...], plan: Plan) -> list[float]:
    model = made.loaded.model
    ids = torch.tensor([[*prompt, *answer]])

    def logits() -> torch.Tensor:
        with torch.no_grad():
            found = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double()
        return torch.log_softmax(found, -1)

    plain = logits()
    with under_plan(model, plan):
        planned = logits()
    return (plain.exp() * (plain - planned)).sum(-1).tolist()


def test_a_plan_that_does_nothing_costs_nothing_and_a_stronger_one_costs_more(tmp_path: Path) -> None:
    conditions = [PLAIN, *(steered(strength) for strength in (0.0, 0.5, 2.0, 8.0))]
    found = run_divergence(engine(), conditions, out=tmp_path, chats=CHATS, max_new_tokens=16)
    values = [one.kl.estimate for one in found]
    assert [one.name for one in found] == ["steer 0", "steer 0.5", "steer 2", "steer 8"]
    assert values[0] == pytest.approx(0.0, abs=1e-9)
    assert values == sorted(values) and values[1] > 1e-6


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    conditions = [steered(0.5), steered(2.0)]
    whole = run_divergence(engine(), conditions, out=tmp_path / "whole", chats=CHATS, max_new_tokens=8)
    made = engine()
    score = made.score
    calls = 0

    def failing(requests):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return score(requests)

    made.score = failing
    with pytest.raises(KeyboardInterrupt):
        run_divergence(made, conditions, out=tmp_path / "cut", chats=CHATS, max_new_tokens=8)
    made.score, made.run = score, None  # the answers are not generated again
    again = run_divergence(made, conditions, out=tmp_path / "cut", chats=CHATS, max_new_tokens=8)
    assert again == whole
    with pytest.raises(StoreError):
        run_divergence(engine(), conditions, out=tmp_path / "cut", chats=CHATS[:2], max_new_tokens=8)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 chats under the conditions steer 1"):
        run_divergence(engine(), [steered(1.0)], out=tmp_path, chats=[])
    with pytest.raises(UsageError, match="name each condition once"):
        run_divergence(engine(), [steered(1.0), steered(1.0)], out=tmp_path, chats=CHATS)
