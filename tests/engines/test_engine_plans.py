"""Plans in the Transformers engine: mixed batches against lone runs, and against a model with plain hooks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from personascope.chat import ChatFormat, Message
from personascope.engines import (
    Capture,
    Completion,
    Probe,
    Request,
    Sampling,
    ScoreRequest,
    TransformersEngine,
)
from personascope.engines._transformers import _batch
from personascope.errors import EngineError
from personascope.interventions import Ablate, Cap, Plan, PlanModel, Steer, TokenSpans, tokens_acted_on
from personascope.models import LoadedModel, block_output, replace_block_output
from tiny import load_tiny, tiny_models

QUESTIONS = [
    "Who are you?",
    "What is rain?",
    "Tell me about money, and about time, and about the sea at night.",
]
SYSTEMS = ["You are a pirate who counts the waves and never comes home.", "Speak as the old tree does.", ""]


def conversation(i: int) -> tuple[Message, ...]:
    system = SYSTEMS[i % 3]
    messages = [Message("system", system)] if system else []
    return (*messages, Message("user", QUESTIONS[(i // 3) % 3]))


def direction(loaded: LoadedModel, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(loaded.d_model)


def ten_plans(loaded: LoadedModel) -> list[Plan]:
    """Steer, ablate, cap, several of them at one layer, and every part of the conversation."""
    last = loaded.n_layers - 1

    def v(seed: int) -> np.ndarray:
        return direction(loaded, seed)

    return [
        Plan((Steer(1, v(0), 0.5, 4.0),)),
        Plan((Steer(1, v(0), -0.5, 4.0),)),
        Plan((Ablate(2, v(1)), Ablate(0, v(2), 0.7))),
        Plan(tuple(Cap(layer, v(3), floor=0.4) for layer in range(loaded.n_layers))),
        Plan((Cap(1, v(4), floor=0.3), Cap(1, v(5), ceiling=-0.2))),
        Plan((Cap(1, v(4), floor=0.3), Steer(1, v(6), 2.0), Cap(last, v(5), ceiling=-0.2))),
        Plan((Steer(0, v(7), 3.0, tokens="prompt"),)),
        Plan((Steer(last, v(8), 3.0, tokens="response"),)),
        Plan((Cap(2, v(9), floor=1.0, tokens="turn:0"), Steer(0, v(10), 1.0, tokens="response"))),
        Plan((Steer(last, v(11), 40.0),)),
    ]


def thirty_two(loaded: LoadedModel, *, capture: bool = False) -> list[Request]:
    plans = ten_plans(loaded)
    chosen: list[Plan | None] = [*plans, *plans, *plans[:4], *([None] * 8)]
    order = np.random.default_rng(5).permutation(32)
    return [
        Request(
            id=f"r{number}",
            prompt=conversation(number),
            sampling=Sampling(temperature=0.9, top_p=0.95, max_new_tokens=3 + number % 9),
            plan=chosen[place],
            capture=Capture() if capture else None,
            probes=(Probe("p", 1, direction(loaded, 99).astype(np.float32)),) if number % 5 == 0 else (),
            seed=2,
            # A random model writes the marks of thinking anywhere: all that it wrote is read.
            tokens="response",
        )
        for number, place in enumerate(order)
    ]


class Logits:
    """Keeps the logits from which each request's tokens are drawn, in order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, list[torch.Tensor]] = defaultdict(list)
        draw = _batch.Batch._draw

        def spy(batch, rows, logits):
            for row, values in zip(rows, logits, strict=True):
                self.of[row.queued.request.id].append(values.float().clone())
            return draw(batch, rows, logits)

        patch.setattr(_batch.Batch, "_draw", spy)

    def run(self, engine: TransformersEngine, requests: Sequence[Request]) -> dict[str, Completion]:
        self.of.clear()
        done = {completion.id: completion for completion in engine.run(requests)}
        assert done.keys() == {request.id for request in requests}
        return done


@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3", "gpt2"])
def test_a_mixed_batch_of_32_equals_every_request_run_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_tiny(name)
    chat = loaded.chat or ChatFormat.transcript(loaded.tokenizer)
    requests = thirty_two(loaded, capture=True)
    assert len({r.plan.digest for r in requests if r.plan}) == 10
    assert sum(r.plan is None for r in requests) == 8
    logits = Logits(monkeypatch)
    together = logits.run(TransformersEngine(loaded, max_batch=32, chat=chat), requests)
    seen = dict(logits.of)
    for request in requests:
        mine = together[request.id]
        assert mine.plan_digest == (request.plan.digest if request.plan else None)
        alone = logits.run(TransformersEngine(load_tiny(name), max_batch=1, chat=chat), [request])[request.id]
        assert mine.token_ids == alone.token_ids
        assert len(seen[request.id]) == len(logits.of[request.id])
        for a, b in zip(seen[request.id], logits.of[request.id], strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert mine.pooled is not None
        assert alone.pooled is not None
        np.testing.assert_allclose(mine.pooled, alone.pooled, atol=2e-5, rtol=1e-5)
        if request.plan is None:
            assert mine.cap_stats is None
            continue
        assert mine.cap_stats is not None
        assert alone.cap_stats is not None
        assert mine.cap_stats.tokens == alone.cap_stats.tokens
        assert mine.cap_stats.fired == alone.cap_stats.fired
        assert mine.cap_stats.capped_tokens == alone.cap_stats.capped_tokens
        assert mine.cap_stats.max_moved == pytest.approx(alone.cap_stats.max_moved, rel=1e-4)
        assert mine.cap_stats.moved == pytest.approx(dict(alone.cap_stats.moved), rel=1e-4, abs=1e-6)


def hooked_logits(
    loaded: LoadedModel,
    prompt: tuple[int, ...],
    response: tuple[int, ...],
    plan: Plan | None,
    turns: tuple[int, ...],
) -> tuple[torch.Tensor, dict[int, torch.Tensor], dict[int, int]]:
    """One plain forward pass, operations written out: logits that drew the response, stream, caps fired."""
    positions = torch.arange(len(prompt) + len(response))
    stream: dict[int, torch.Tensor] = {}
    fired: dict[int, int] = defaultdict(int)

    def hook(layer: int):
        def act(_module, _inputs, output):
            h = block_output(output)[0].clone()
            for op in plan.ops if plan else ():
                if op.layer != layer:
                    continue
                v = torch.from_numpy(op.direction.copy())
                start, stop = {
                    "all": (0, 10**9),
                    "prompt": (0, len(prompt)),
                    "response": (len(prompt), 10**9),
                }.get(op.tokens) or (turns[int(op.tokens[5:])], 10**9)
                for i in positions.tolist():
                    if not start <= i < stop:
                        continue
                    p = float(h[i] @ v)
                    if isinstance(op, Steer):
                        h[i] += op.strength * (op.norm or 1) * v
                    elif isinstance(op, Ablate):
                        h[i] += (op.to - p) * v
                    elif op.floor is not None and p < op.floor:
                        h[i] += (op.floor - p) * v
                        fired[layer] += 1
                    elif op.ceiling is not None and p > op.ceiling:
                        h[i] += (op.ceiling - p) * v
                        fired[layer] += 1
            stream[layer] = h
            return replace_block_output(output, h[None])

        return act

    handles = [b.register_forward_hook(hook(layer)) for layer, b in enumerate(loaded.stack.blocks)]
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
    for handle in handles:
        handle.remove()
    return logits[len(prompt) - 1 : -1], stream, fired


def joint(plan: Plan) -> bool:
    return any(len(stage) > 1 for layer in plan.layers for stage in plan.stages(layer))


@pytest.mark.parametrize("name", sorted(tiny_models()))
def test_every_family_equals_plain_hooks_on_the_untouched_model(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_tiny(name)
    chat = loaded.chat or ChatFormat.transcript(loaded.tokenizer)
    engine = TransformersEngine(loaded, max_batch=16, prefill_tokens=200, chat=chat)
    # Caps that hold together are compared with a general solver in the tests of the math.
    requests = [r for r in thirty_two(loaded, capture=True) if r.plan is None or not joint(r.plan)]
    logits = Logits(monkeypatch)
    done = logits.run(engine, requests)
    plain = load_tiny(name)
    for request in requests:
        mine = done[request.id]
        rendered = chat.render_with_spans(request.prompt, add_generation_prompt=True)  # pyright: ignore
        turns = tuple(span.start for span in rendered.spans)
        wanted, stream, fired = hooked_logits(plain, rendered.token_ids, mine.token_ids, request.plan, turns)
        for step, values in enumerate(wanted):
            torch.testing.assert_close(logits.of[request.id][step], values.float(), atol=1e-4, rtol=1e-4)
        if mine.pooled is not None:
            begin = len(rendered.token_ids)
            for layer in range(loaded.n_layers):
                pooled = stream[layer][begin:].float().mean(0).numpy()
                np.testing.assert_allclose(mine.pooled[layer], pooled, atol=1e-4, rtol=1e-4)
        if request.plan is not None and mine.token_ids:
            assert mine.cap_stats is not None
            assert {k: v for k, v in mine.cap_stats.fired.items() if v} == dict(fired)
            fed = len(rendered.token_ids) + len(mine.token_ids)
            extent = engine._queue(request).extent
            assert mine.cap_stats.tokens == tokens_acted_on(request.plan, extent, 0, fed)


def test_plain_requests_beside_plans_equal_the_model_never_touched_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = load_tiny("llama")
    requests = [r for r in thirty_two(loaded) if r.plan is None]
    logits = Logits(monkeypatch)
    # The same rows stand in the same places: what is left is what the plans' tensors would do to them.
    before = logits.run(TransformersEngine(loaded, max_batch=8), requests)
    seen = dict(logits.of)
    v = direction(loaded, 0)
    harmless = Plan(tuple(Cap(layer, v, floor=-1e9) for layer in range(loaded.n_layers)))
    planned = [
        Request(r.id, r.prompt, r.sampling, harmless, r.capture, r.probes, r.seed, tokens="response")
        for r in requests
    ]
    after = logits.run(TransformersEngine(loaded, max_batch=8), planned)
    for request in requests:
        assert after[request.id].token_ids == before[request.id].token_ids
        assert all(torch.equal(a, b) for a, b in zip(seen[request.id], logits.of[request.id], strict=True))
        stats = after[request.id].cap_stats
        assert stats is not None
        assert stats.capped_tokens == 0
        assert stats.tokens > 0


def test_memory_that_runs_out_starts_rows_and_their_telemetry_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_tiny("llama")
    requests = thirty_two(loaded)
    wanted = {c.id: c for c in TransformersEngine(loaded, max_batch=32).run(requests)}
    step = _batch.Batch._step
    calls = iter(range(10**6))

    def failing(batch):
        if next(calls) == 3:
            raise torch.OutOfMemoryError("too much")
        return step(batch)

    monkeypatch.setattr(_batch.Batch, "_step", failing)
    done = {c.id: c for c in TransformersEngine(loaded, max_batch=32).run(requests)}
    assert done.keys() == wanted.keys()
    for id, completion in done.items():
        assert completion.token_ids == wanted[id].token_ids
        mine, other = completion.cap_stats, wanted[id].cap_stats
        assert (mine and (mine.tokens, mine.fired)) == (other and (other.tokens, other.fired))


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_scores_equal_the_log_probabilities_of_plain_hooks(name: str) -> None:
    loaded = load_tiny(name)
    engine = TransformersEngine(loaded, prefill_tokens=150)
    plans = [None, *ten_plans(loaded)[:4], *ten_plans(loaded)[6:9]]
    requests = [
        ScoreRequest(f"s{i}", conversation(i), engine.encode("a pirate and a poet")[: 1 + i % 6], plan)
        for i, plan in enumerate(plans * 2)
    ]
    done = {scored.id: scored for scored in engine.score(requests)}
    assert done.keys() == {r.id for r in requests}
    for request in requests:
        rendered = loaded.chat.render_with_spans(request.prompt, add_generation_prompt=True)  # pyright: ignore
        turns = tuple(span.start for span in rendered.spans)
        prompt, plan = rendered.token_ids, request.plan
        logits, _, _ = hooked_logits(loaded, prompt, request.continuation, plan, turns)
        stats = done[request.id].cap_stats
        assert (stats is None) == (plan is None)
        if plan is not None and stats is not None:
            # The last token of a continuation is not fed.
            _, _, fired = hooked_logits(loaded, prompt, request.continuation[:-1], plan, turns)
            assert {layer: count for layer, count in stats.fired.items() if count} == dict(fired)
            extent = TokenSpans(len(prompt), turns)
            fed = len(prompt) + len(request.continuation) - 1
            assert stats.tokens == tokens_acted_on(plan, extent, 0, fed)
        logprobs = logits.float().log_softmax(-1)
        wanted = logprobs[range(len(request.continuation)), request.continuation]
        np.testing.assert_allclose(done[request.id].logprobs, wanted, atol=1e-4)
        assert done[request.id].greedy == (logits.argmax(-1).tolist() == list(request.continuation))
        assert done[request.id].plan_digest == (request.plan.digest if request.plan else None)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3"])
def test_continuations_of_one_prompt_score_as_each_alone(name: str) -> None:
    loaded = load_tiny(name)
    engine = TransformersEngine(loaded, prefill_tokens=40)
    tokens = engine.encode("a pirate and a poet went to sea in a boat")
    prompts = (conversation(0), conversation(1))
    requests = [
        ScoreRequest(f"{p}/{n}", prompt, tokens[n : n + 1 + 2 * n])
        for p, prompt in enumerate(prompts)
        for n in range(5)
    ]
    together = {scored.id: scored for scored in engine.score(requests)}
    assert together.keys() == {request.id for request in requests}
    for request in requests:
        (alone,) = engine.score([request])
        assert together[request.id].logprobs.shape == (len(request.continuation),)
        np.testing.assert_allclose(together[request.id].logprobs, alone.logprobs, atol=1e-4)
        assert together[request.id].greedy == alone.greedy


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_generation_gives_the_log_probabilities_that_scoring_gives(name: str) -> None:
    loaded = load_tiny(name)
    engine = TransformersEngine(loaded, max_batch=4)
    plans = [None, *ten_plans(loaded)[:3]]
    requests = [
        Request(
            f"r{i}", conversation(i), Sampling(max_new_tokens=3 + 4 * i), plan, Capture(), logprobs=i != 2
        )
        for i, plan in enumerate(plans)
    ]
    done = {completion.id: completion for completion in engine.run(requests)}
    assert done["r2"].logprobs is None
    for request in requests[:2] + requests[3:]:
        got = done[request.id]
        assert got.token_ids
        (wanted,) = engine.score([ScoreRequest("s", request.prompt, got.token_ids, request.plan)])
        np.testing.assert_allclose(got.logprobs, wanted.logprobs, atol=1e-4)


def test_observing_under_a_plan_equals_plain_hooks_the_last_reply_being_the_response() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    more = (Message("assistant", "Rain."), Message("user", "And?"), Message("assistant", "a poet"))
    talk = (*conversation(0), *more)
    rendered = loaded.chat.render_with_spans(talk)  # pyright: ignore
    begin = rendered.spans[-1].start
    turns = tuple(span.start for span in rendered.spans)
    for plan in [None, *ten_plans(loaded)[:4], *ten_plans(loaded)[6:9]]:
        ids = rendered.token_ids
        _, stream, _ = hooked_logits(loaded, ids[:begin], ids[begin:], plan, turns)
        seen = engine.observe(talk, capture=Capture(norms=True), plan=plan)
        for turn, span in zip(seen, rendered.spans, strict=True):
            assert turn.pooled is not None
            assert turn.norms is not None
            for layer in range(loaded.n_layers):
                tokens = stream[layer][span.start : span.end].float()
                np.testing.assert_allclose(turn.pooled[layer], tokens.mean(0), atol=1e-4)
                assert turn.norms[layer] == pytest.approx(float(tokens.norm(dim=-1).mean()), rel=1e-4)


def test_texts_that_stop_a_response_are_not_part_of_it() -> None:
    loaded = load_tiny("llama")
    engine = TransformersEngine(loaded)
    for plan in (None, ten_plans(loaded)[0], ten_plans(loaded)[7]):
        ask = Request("r", conversation(0), Sampling(temperature=0, max_new_tokens=24), plan, Capture())
        whole = next(iter(engine.run([ask])))
        stop = whole.text[5:7]
        sampling = Sampling(temperature=0, max_new_tokens=24, stop=("never there", stop))
        short = next(iter(engine.run([Request("r", ask.prompt, sampling, plan, Capture())])))
        assert short.finish_reason == "stop"
        assert stop not in short.text
        assert short.text == whole.text[: whole.text.index(stop)]
        assert short.token_ids == whole.token_ids[: len(short.token_ids)]
        rendered = loaded.chat.render_with_spans(ask.prompt, add_generation_prompt=True)  # pyright: ignore
        _, stream, _ = hooked_logits(loaded, rendered.token_ids, short.token_ids, plan, ())
        assert short.pooled is not None
        for layer in range(loaded.n_layers):
            mean = stream[layer][len(rendered.token_ids) :].float().mean(0)
            np.testing.assert_allclose(short.pooled[layer], mean, atol=1e-4)


@pytest.mark.parametrize(
    ("plan", "prompt", "text"),
    [
        (Plan((Steer(0, np.ones(7), 1.0),)), conversation(0), "width 7"),
        (Plan((Steer(99, np.ones(48), 1.0),)), conversation(0), "layer 99"),
        (
            Plan((Steer(0, np.ones(48), 1.0),), PlanModel("other", "abc", 5, 48)),
            conversation(0),
            "of the model 'other'",
        ),
        (Plan((Steer(0, np.ones(48), 1.0, tokens="turn:2"),)), conversation(0), "conversation of 2 messages"),
        (Plan((Steer(0, np.ones(48), 1.0, tokens="turn:0"),)), (1, 2, 3), "prompt is token ids"),
        ("cap", conversation(0), "carries a str"),
    ],
)
def test_a_plan_that_cannot_act_is_refused_before_anything_runs(plan, prompt, text: str) -> None:
    loaded = load_tiny("llama")
    assert loaded.d_model == 48
    engine = TransformersEngine(loaded)
    with pytest.raises(EngineError, match=text) as raised:
        list(engine.run([Request("good", conversation(0)), Request("bad", prompt, plan=plan)]))
    assert "'bad'" in str(raised.value)
    with pytest.raises(EngineError, match=text):
        list(engine.score([ScoreRequest("bad", prompt, (1,), plan)]))
