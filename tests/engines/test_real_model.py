"""The engine on SmolLM2: pooled means against a float32 teacher-forced pass, and what cannot be mapped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from personascope.chat import Message
from personascope.engines import Capture, Completion, Request, Sampling, TransformersEngine
from personascope.errors import ModelError
from personascope.models import load, resolve

pytestmark = pytest.mark.real
QUESTIONS = [
    "Hi.",
    "Who are you?",
    "Explain why the sky changes colour in the evening, and then say what you make of it yourself.",
    "Tell me about the best meal that you can remember.",
]


@pytest.fixture(scope="module", autouse=True)
def embedded() -> None:
    try:
        resolve("smollm2-135m")
    except ModelError as error:
        pytest.skip(f"the embedded model is not installed: {error.hint}")


def requests() -> list[Request]:
    """Prompts and responses of very different lengths, some under one system prompt."""
    made = []
    for number in range(12):
        system = ["You are a pirate.", "", "You are a careful accountant in a small town by the sea."][
            number % 3
        ]
        user = Message("user", QUESTIONS[number % 4])
        made.append(
            Request(
                f"r{number}",
                (Message("system", system), user) if system else (user,),
                Sampling(max_new_tokens=(1, 2, 7, 30)[number % 4]),
                capture=Capture(),
            )
        )
    return made


@torch.inference_mode()
def teacher_forced(engine: TransformersEngine, prompt: list[int], completion: Completion) -> np.ndarray:
    """Run the text by itself, without cache or padding, and take the means with plain hooks."""
    blocks = engine.loaded.model.model.layers
    held: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, output: held.append(output)) for block in blocks]
    try:
        engine.loaded.model(torch.tensor([[*prompt, *completion.token_ids]]), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    streams = [state[0] if isinstance(state, tuple) else state for state in held]
    return np.stack([stream.float()[0, len(prompt) :].mean(0).numpy() for stream in streams])


def check(engine: TransformersEngine, reference: TransformersEngine):
    """Yield (completion, its means by teacher forcing in float32) for a batch of mixed lengths."""
    asked = {request.id: request for request in requests()}
    done = list(engine.run(asked.values()))
    assert {completion.id for completion in done} == set(asked)
    assert len({completion.token_count for completion in done}) >= 4
    for completion in done:
        assert completion.pooled is not None and completion.pooled.dtype == np.float32
        prompt = engine.chat.render(asked[completion.id].prompt)  # pyright: ignore
        yield completion, prompt, teacher_forced(reference, prompt, completion)


def off(value: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Relative L2 error of each layer."""
    return np.linalg.norm(value - want, axis=1) / np.linalg.norm(want, axis=1)


def test_float32_means_equal_a_teacher_forced_pass() -> None:
    reference = TransformersEngine(load("smollm2-135m", dtype="float32"))
    engine = TransformersEngine(load("smollm2-135m", dtype="float32"), max_batch=8)
    for completion, _, want in check(engine, reference):
        assert off(completion.pooled, want).max() <= 1e-5, completion.id  # pyright: ignore


def test_bfloat16_means_equal_a_float32_teacher_forced_pass() -> None:
    """Within 1e-2 from a few tokens on, and over all responses as near as plain bfloat16 arithmetic.

    (A response of one or two tokens averages no rounding away: a plain bfloat16 pass over it, without
    any engine, is itself 1e-2 to 6e-2 from float32 in this model. The two passes round in ways of their
    own, which also differ from one processor to the next: a single ratio of errors was seen at 1.6.)
    """
    reference = TransformersEngine(load("smollm2-135m", dtype="float32"))
    engine = TransformersEngine(load("smollm2-135m", dtype="bfloat16"), max_batch=8)
    longer: list[float] = []
    errors: list[tuple[float, float]] = []
    for completion, prompt, want in check(engine, reference):
        pooled = completion.pooled
        assert pooled is not None
        error = np.linalg.norm(pooled - want) / np.linalg.norm(want)
        plain = teacher_forced(engine, prompt, completion)
        own = np.linalg.norm(plain - want) / np.linalg.norm(want)
        assert error <= 2 * own, completion.id
        errors.append((float(error), float(own)))
        if completion.token_count >= 7:
            longer.append(float(error))
    ours, plain = np.sqrt((np.array(errors) ** 2).mean(0))
    assert ours <= 1.15 * plain
    # Processors round in ways of their own: on one with AMX a single response comes to 1.01e-2.
    assert np.median(longer) <= 1e-2 and max(longer) <= 1.2e-2
