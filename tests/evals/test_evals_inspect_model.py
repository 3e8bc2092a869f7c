from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai", reason="the extra evals is not installed")

from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
    Model,
)
from inspect_ai.tool import ToolInfo
from inspect_case import WIDTH, api, cap, models_on_disk, models_opened  # noqa: F401 (fixtures)

from personascope.chat import Message
from personascope.engines import Request, Sampling
from personascope.errors import InterventionError, StoreError, UsageError
from personascope.evals.inspect._sampling import sampling_of
from personascope.interventions import Plan, PlanModel

GREEDY = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=6)


def test_generation_options_are_honoured() -> None:
    config = GenerateConfig(
        temperature=0.0, top_p=0.5, max_tokens=9, stop_seqs=["a", "a", ""], seed=4, num_choices=1, timeout=3
    )
    assert sampling_of(config) == (Sampling(0.0, 0.5, 9, stop=("a",)), 4)
    assert sampling_of(GenerateConfig()) == (Sampling(), 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"logprobs": True}, "logprobs=True"),
        ({"top_k": 5}, "top_k=5"),
        ({"num_choices": 2, "frequency_penalty": 0.5}, r"frequency_penalty=0.5, num_choices=2"),
        ({"reasoning_tokens": 10}, "reasoning_tokens=10"),
    ],
)
def test_generation_options_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        sampling_of(GenerateConfig(**options))


async def call(model: Model, *messages: Any, tools: Any = (), **config: Any) -> Any:
    return await model.api.generate(list(messages), list(tools), "auto", GenerateConfig(**config))


def test_a_model_of_inspect_gives_what_the_engine_gives(folder: Path, opened: Callable[..., Model]) -> None:
    plain, capped = opened(), opened(plan=str(folder / "cap"))
    messages = [ChatMessageSystem(content="You are a pirate."), ChatMessageUser(content="hello there")]
    talk = (Message("system", "You are a pirate."), Message("user", "hello there"))

    async def both() -> Any:
        options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 6}
        return await asyncio.gather(*(call(model, *messages, **options) for model in (plain, capped)))

    outputs = asyncio.run(both())
    assert api(plain)._shared is api(capped)._shared, "the plan alone differs: one engine"
    engine = api(plain)._shared.engine
    requests = [Request(str(n), talk, GREEDY, plan=plan) for n, plan in enumerate((None, cap()))]
    for output, done in zip(outputs, sorted(engine.run(requests), key=lambda one: one.id), strict=True):
        assert output.completion == done.text
        assert output.stop_reason == "max_tokens"
        assert output.usage.input_tokens == done.prompt_tokens == engine.count_tokens(talk)
        assert output.usage.output_tokens == len(done.token_ids) == 6
        assert output.metadata["plan_digest"] == done.plan_digest
    assert outputs[0].metadata["firing_share"] is None
    assert 0 < outputs[1].metadata["firing_share"] <= 1
    assert outputs[1].metadata["plan_digest"] == cap().digest
    assert plain.api.max_connections() == 4 * engine.max_batch


def test_the_last_of_the_models_that_share_an_engine_closes_it(opened: Callable[..., Model]) -> None:
    first, second = opened(), opened()
    batcher = api(first)._shared.batcher
    first.api.close()
    first.api.close()
    assert asyncio.run(call(second, ChatMessageUser(content="hi"), max_tokens=2)).usage.output_tokens <= 2
    second.api.close()
    with pytest.raises(UsageError, match="closed"):
        batcher.generate((Message("user", "more"),), GREEDY)
    assert api(opened())._shared.batcher is not batcher


def test_what_a_model_cannot_do_is_refused_by_name(folder: Path, opened: Callable[..., Model]) -> None:
    model = opened()
    user = ChatMessageUser(content="hi")
    for messages, options, named in (
        ([user], {"tools": [ToolInfo(name="bash", description="runs")]}, "bash"),
        ([user], {"logprobs": True}, "logprobs=True"),
        ([ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AA==")])], {}, "type image"),
        ([user, ChatMessageAssistant(content="I am")], {}, "ends with the model's own message"),
    ):
        with pytest.raises(UsageError, match=named):
            asyncio.run(call(model, *messages, **options))
    parts = ChatMessageUser(content=[ContentText(text="one"), ContentText(text="two")])
    assert api(model).prompt([parts]) == (Message("user", "one\ntwo"),)
    with pytest.raises(UsageError, match="takes no model argument strength"):
        opened(strength=0.5)
    with pytest.raises(UsageError, match="chat is 'loud'"):
        opened(chat="loud")
    with pytest.raises(StoreError):
        opened(plan=str(folder / "no_plan"))
    other = Plan(cap().ops, PlanModel("other/model", "1", 4, WIDTH))
    other.save(folder / "other")
    with pytest.raises(InterventionError, match="other/model"):
        opened(plan=str(folder / "other"))


def test_a_base_model_continues_the_text_as_it_stands(opened: Callable[..., Model]) -> None:
    model, talking = opened("base"), opened("base", chat="transcript")
    options = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 6}
    output = asyncio.run(call(model, ChatMessageUser(content="My job is to"), **options))
    engine = api(model)._shared.engine
    (done,) = engine.run([Request("x", engine.encode("My job is to", special=True), GREEDY)])
    assert output.completion == done.text
    with pytest.raises(UsageError, match="no chat template"):
        asyncio.run(call(model, ChatMessageSystem(content="s"), ChatMessageUser(content="u")))
    said = asyncio.run(call(talking, ChatMessageUser(content="My job is to"), **options))
    (done,) = api(talking)._shared.engine.run([Request("x", (Message("user", "My job is to"),), GREEDY)])
    assert said.completion == done.text
    instruct = opened(chat="raw")
    assert api(instruct).prompt([ChatMessageUser(content="My job")]) == api(instruct)._shared.engine.encode(
        "My job", special=True
    )
