"""Numbers that the model's dtype cannot hold are refused before anything runs, by both engines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personascope.chat import Message
from personascope.engines import Request, Sampling, ScoreRequest, TransformersEngine
from personascope.engines._vllm._admission import AdmissionCheck
from personascope.engines._vllm._config import PluginConfig
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer
from tiny import load_tiny

TALK = (Message("user", "Who are you?"),)
V = np.ones(48, np.float32)


@pytest.mark.parametrize("plan", [Plan((Cap(1, V, floor=7e4),)), Plan((Steer(1, V, 100.0, norm=700.0),))])
def test_a_number_beyond_float16_is_refused(plan: Plan) -> None:
    engine = TransformersEngine(load_tiny("llama", dtype=torch.float16))
    request = Request("far", TALK, Sampling(temperature=0, max_new_tokens=2), plan=plan)
    with pytest.raises(EngineError, match=r"'far'.*float16 ends at 65504") as caught:
        list(engine.run([request]))
    assert "size of the model's activations" in caught.value.hint
    with pytest.raises(EngineError, match="float16 ends at"):
        list(engine.score([ScoreRequest("far", TALK, (1,), plan)]))
    with pytest.raises(EngineError, match="float16 ends at"):
        engine.observe(TALK, plan=plan)
    wide = TransformersEngine(load_tiny("llama"))
    (done,) = wide.run([request])
    assert done.plan_digest == plan.digest


def test_the_scheduler_of_vllm_refuses_the_same() -> None:
    plan = Plan((Cap(1, V, floor=7e4),))
    AdmissionCheck(PluginConfig("plans"), 4, 48, "bfloat16").check_plan(plan)
    with pytest.raises(EngineError, match="float16 ends at 65504"):
        AdmissionCheck(PluginConfig("plans"), 4, 48, "float16").check_plan(plan)
