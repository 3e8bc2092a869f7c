"""A plan on a bare model of Transformers, against the engine that the other tests hold to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personascope.engines import Request, Sampling, TransformersEngine
from personascope.errors import InterventionError
from personascope.interventions import Ablate, Cap, Plan, PlanModel, Steer
from personascope.models import steered
from tiny import load_tiny

PROMPTS = [(5, 9, 12, 40, 41), (7, 8), (30, 31, 32, 33)]


def plans() -> list[Plan]:
    rng = np.random.default_rng(0)
    v = [rng.standard_normal(48) for _ in range(5)]
    return [
        Plan((Steer(1, v[0], 0.5, 4.0), Cap(2, v[1], floor=0.4))),
        Plan((Steer(1, v[0], 3.0, tokens="prompt"), Cap(2, v[1], ceiling=-0.4, tokens="response"))),
        Plan((Cap(0, v[2], floor=0.5), Cap(0, v[3], floor=0.5), Ablate(3, v[4]))),
    ]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("number", range(3))
def test_generate_under_a_plan_equals_the_engine(number: int, use_cache: bool) -> None:
    loaded, plan = load_tiny("llama"), plans()[number]
    engine = TransformersEngine(load_tiny("llama"))
    sampling = Sampling(temperature=0, max_new_tokens=9, min_new_tokens=9)
    wanted = {
        c.id: c for c in engine.run([Request(str(i), p, sampling, plan) for i, p in enumerate(PROMPTS)])
    }
    width = max(map(len, PROMPTS))
    ids = torch.tensor([(0,) * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    with loaded.steered(plan) as state:
        out = loaded.model.generate(  # pyright: ignore
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=9,
            min_new_tokens=9,
            do_sample=False,
            pad_token_id=0,
            use_cache=use_cache,
        )
    for row in range(len(PROMPTS)):
        mine = wanted[str(row)]
        assert out[row, width:].tolist() == list(mine.token_ids)
        assert mine.cap_stats is not None
        assert state.cap_stats[row].fired == mine.cap_stats.fired
        assert state.cap_stats[row].tokens == mine.cap_stats.tokens
        assert state.cap_stats[row].capped_tokens == mine.cap_stats.capped_tokens


def test_the_model_is_as_before_when_the_block_ends_also_by_an_error() -> None:
    loaded, plan = load_tiny("llama"), plans()[0]
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        before = loaded.model(input_ids=ids).logits
        with loaded.steered(plan):
            during = loaded.model(input_ids=ids).logits
        with pytest.raises(RuntimeError, match="mine"), loaded.steered(plan):
            raise RuntimeError("mine")
        after = loaded.model(input_ids=ids).logits
    assert torch.equal(before, after)
    assert not torch.allclose(before, during)


def test_a_model_that_the_user_already_has_needs_nothing_else() -> None:
    model = load_tiny("gpt2").model
    plan = Plan((Steer(1, np.ones(model.config.hidden_size), 5.0),))
    ids = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with steered(model, plan) as state:
            during = model(input_ids=ids).logits
    assert not torch.allclose(before, during)
    assert [t.tokens for t in state.cap_stats] == [len(PROMPTS[0])]


def test_a_plan_that_does_not_fit_is_refused_by_name() -> None:
    loaded = load_tiny("llama")
    for plan, text in [
        (Plan((Steer(9, np.ones(48), 1.0),)), "layer 9"),
        (Plan((Steer(0, np.ones(8), 1.0),)), "width 8"),
        (Plan((Steer(0, np.ones(48), 1.0),), PlanModel("qwen", "abc", 5, 48)), "of the model 'qwen'"),
        (Plan((Steer(0, np.ones(48), 1.0, tokens="turn:1"),)), "turn:1"),
    ]:
        with pytest.raises(InterventionError, match=text), loaded.steered(plan):
            pass
