"""The engine against a plain teacher-forced forward pass of the same model, one request at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from personascope.chat import ChatFormat, Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling, TransformersEngine
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer
from personascope.models import LoadedModel, block_output
from tiny import load_tiny, tiny_models

SYSTEMS = [
    "",
    "You are a pirate who counts the waves.",
    "Speak as the old tree in the yard does, slowly, slowly.",
]
QUESTIONS = [
    "Who are you?",
    "What is rain?",
    "Tell me about money, and about time, and about the sea at night.",
]


def requests(
    n: int, *, seed: int = 3, temperature: float = 0.8, capture: Capture | None = None
) -> list[Request]:
    made = []
    for i in range(n):
        system, question = SYSTEMS[i % 3], QUESTIONS[(i // 3) % 3]
        messages = [Message("system", system)] if system else []
        made.append(
            Request(
                id=f"r{i}",
                prompt=(*messages, Message("user", question)),
                sampling=Sampling(temperature=temperature, top_p=0.95, max_new_tokens=1 + (7 * i) % 23),
                capture=capture or Capture(),
                seed=seed,
                # A random model writes the marks of thinking anywhere: all that it wrote is read.
                tokens="response",
            )
        )
    return made


def reference(
    loaded: LoadedModel, prompt: list[int], response: tuple[int, ...]
) -> tuple[np.ndarray, torch.Tensor]:
    """Return [layers, tokens, d] of the response and the logits that drew it, from one plain forward pass."""
    seen: dict[int, torch.Tensor] = {}
    handles = [
        block.register_forward_hook(
            lambda _m, _i, out, layer=layer: seen.__setitem__(layer, block_output(out)[0].float())
        )
        for layer, block in enumerate(loaded.stack.blocks)
    ]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    stream = torch.stack([seen[layer] for layer in range(loaded.n_layers)])[:, len(prompt) :]
    return stream.numpy(), logits[len(prompt) - 1 : -1]


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)).max())


@pytest.mark.parametrize("name", sorted(tiny_models()))
def test_pooled_means_equal_a_teacher_forced_pass(name: str) -> None:
    loaded = load_tiny(name)
    asked = {request.id: request for request in requests(24)}
    chat = loaded.chat or ChatFormat.transcript(loaded.tokenizer)
    engine = TransformersEngine(loaded, max_batch=7, prefill_tokens=300, chat=chat)
    done = list(engine.run(iter(asked.values())))
    assert sorted(c.id for c in done) == sorted(asked)
    for completion in done:
        prompt = list(engine._chat().render(asked[completion.id].prompt))  # pyright: ignore
        assert completion.prompt_tokens == len(prompt)
        assert completion.token_count == len(completion.token_ids)
        if completion.finish_reason == "length" and not completion.spans:
            assert completion.token_count == asked[completion.id].sampling.max_new_tokens
        if not completion.token_ids:
            assert completion.pooled is None
            continue
        stream, _ = reference(loaded, prompt, completion.token_ids)
        assert completion.pooled is not None
        assert relative(completion.pooled, stream.mean(1)) < 1e-5


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_greedy_tokens_are_those_of_the_plain_model(name: str) -> None:
    loaded = load_tiny(name)
    asked = requests(18, temperature=0.0)
    engine = TransformersEngine(loaded, max_batch=5)
    for completion in engine.run(asked):
        prompt = list(engine._chat().render(next(r.prompt for r in asked if r.id == completion.id)))  # pyright: ignore
        _, logits = reference(loaded, prompt, completion.token_ids)
        assert tuple(logits.argmax(-1).tolist()) == completion.token_ids


def test_draws_depend_on_seed_and_id_and_not_on_the_batch() -> None:
    loaded = load_tiny("llama")
    asked = requests(20)
    together = {c.id: c.token_ids for c in TransformersEngine(loaded, max_batch=20).run(asked)}
    for size in (1, 6):
        alone = {c.id: c.token_ids for c in TransformersEngine(loaded, max_batch=size).run(reversed(asked))}
        assert alone == together
    other = {c.id: c.token_ids for c in TransformersEngine(loaded).run(requests(20, seed=4))}
    assert other != together


def test_probes_equal_the_dot_product_of_every_token() -> None:
    loaded = load_tiny("qwen3")
    rng = np.random.default_rng(0)
    probes = tuple(
        Probe(f"p{layer}{i}", layer, rng.standard_normal(loaded.d_model).astype(np.float32))
        for layer in (0, loaded.n_layers - 1)
        for i in range(2)
    )
    asked = [
        replace(r, probes=probes[: i % 5], capture=Capture((1,)) if i % 2 else None)
        for i, r in enumerate(requests(15))
    ]
    engine = TransformersEngine(loaded, max_batch=4)
    for completion in engine.run(asked):
        request = next(r for r in asked if r.id == completion.id)
        stream, _ = reference(loaded, list(engine._chat().render(request.prompt)), completion.token_ids)  # pyright: ignore
        assert set(completion.projections) == {probe.name for probe in request.probes}
        for probe in request.probes:
            expected = stream[probe.layer] @ probe.direction
            np.testing.assert_allclose(completion.projections[probe.name], expected, rtol=1e-4, atol=1e-4)
        if request.capture is None:
            assert completion.pooled is None
        elif completion.token_ids:
            assert completion.pooled is not None
            assert relative(completion.pooled, stream[[1]].mean(1)) < 1e-5


def test_observe_pools_the_response_that_run_pooled() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    request = requests(2)[1]
    turns = engine.observe((*request.prompt, Message("assistant", "Aye, the sea.")), capture=Capture())  # pyright: ignore
    assert [turn.role for turn in turns] == ["system", "user", "assistant"]
    rendered = loaded.chat.render_with_spans((*request.prompt, Message("assistant", "Aye, the sea.")))  # pyright: ignore
    for turn, span in zip(turns, rendered.spans, strict=True):
        stream, _ = reference(
            loaded, list(rendered.token_ids[: span.start]), rendered.token_ids[span.start : span.end]
        )
        assert turn.pooled is not None
        assert relative(turn.pooled, stream.mean(1)) < 1e-5


def test_observe_during_a_run_disturbs_neither() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded, max_batch=4)
    quiet = {c.id: c.pooled for c in engine.run(requests(12))}
    conversation = (Message("user", "Hello"), Message("assistant", "Good day."))
    alone = engine.observe(conversation, capture=Capture())[1].pooled
    for completion in engine.run(requests(12)):
        np.testing.assert_array_equal(engine.observe(conversation, capture=Capture())[1].pooled, alone)
        if completion.pooled is not None:
            np.testing.assert_array_equal(completion.pooled, quiet[completion.id])


def test_out_of_memory_halves_the_batch_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_tiny("llama")
    expected = {c.id: c.token_ids for c in TransformersEngine(loaded, max_batch=16).run(requests(30))}
    engine = TransformersEngine(loaded, max_batch=16)
    forward = loaded.stack.backbone.forward

    def limited(*args: object, **kwargs: torch.Tensor) -> object:
        if kwargs["input_ids"].shape[1] == 1 and kwargs["input_ids"].shape[0] > 5:
            raise torch.OutOfMemoryError("simulated")
        return forward(*args, **kwargs)

    monkeypatch.setattr(loaded.stack.backbone, "forward", limited)
    done = list(engine.run(requests(30)))
    assert {c.id: c.token_ids for c in done} == expected
    assert len(done) == 30


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"capture": Capture((99,))}, "layer 99"),
        ({"probes": (Probe("p", 0, np.zeros(3, np.float32)),)}, "probe 'p'"),
        ({"sampling": Sampling(top_p=0.0)}, "top_p 0.0"),
        ({"sampling": Sampling(max_new_tokens=0)}, "new tokens"),
        ({"prompt": ()}, "empty prompt"),
        ({"plan": type("Plan", (), {"digest": "abc123"})()}, "abc123"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(change: dict, text: str) -> None:
    base = {"id": "bad", "prompt": (Message("user", "Hi"),)} | change
    with pytest.raises(EngineError, match=text) as raised:
        list(TransformersEngine(load_tiny("llama")).run([Request(**base)]))
    assert "'bad'" in str(raised.value)


@pytest.mark.parametrize("name", sorted(tiny_models()))
def test_a_response_of_one_token_is_the_first_of_a_longer_one(name: str) -> None:
    loaded = load_tiny(name)
    chat = loaded.chat or ChatFormat.transcript(loaded.tokenizer)
    engine = TransformersEngine(loaded, chat=chat)
    v = np.random.default_rng(0).standard_normal(loaded.d_model)
    plans = [
        None,
        Plan((Steer(0, v, 0.5, tokens="prompt"),)),
        Plan((Cap(0, v, floor=1e3, tokens="response"),)),
    ]

    def ask(length: int, **options: Any) -> dict[str, Completion]:
        sampling = Sampling(temperature=0.0, max_new_tokens=length, min_new_tokens=length)
        asked = [
            Request(f"{q}/{p}", (Message("user", question),), sampling, plan=plan, **options)
            for q, question in enumerate(QUESTIONS)
            for p, plan in enumerate(plans)
        ]
        return {completion.id: completion for completion in engine.run(asked)}

    longer, read = ask(3), ask(1, capture=Capture(), tokens="response")
    for id, one in ask(1).items():
        assert one.token_ids == longer[id].token_ids[:1] == read[id].token_ids
        assert (one.finish_reason, one.plan_digest) == ("length", longer[id].plan_digest)
        assert one.pooled is None and read[id].pooled is not None
        # The one token is fed only where it is read, so a plan of the response has nothing to act on.
        if id.endswith("/2"):
            assert one.cap_stats is not None and one.cap_stats.tokens == 0
            assert read[id].cap_stats is not None and read[id].cap_stats.tokens == 1
    id, one = next((id, one) for id, one in longer.items() if one.text and id.endswith("/0"))
    stop = Sampling(temperature=0.0, max_new_tokens=8, stop=(one.text[:1],))
    (cut,) = engine.run([Request("cut", (Message("user", QUESTIONS[int(id[0])]),), stop)])
    assert (cut.text, cut.finish_reason) == ("", "stop")
