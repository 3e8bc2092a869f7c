"""Replies of a model that thinks: what is pooled, projected and acted on, and where they end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from chat.reply_templates import SHAPES
from helpers.scripted import load_family, script_replies
from personascope.chat import ChatOptions, Message
from personascope.engines import Capture, Completion, Probe, Request, Sampling, TransformersEngine
from personascope.errors import EngineError, UsageError
from personascope.interventions import Cap, Plan, Steer
from personascope.models import LoadedModel, block_output

USER = (Message("user", "Who are you?"),)
THOUGHT = "<think>\nHm, hm.\n</think>\n\nA poet am I.<|im_end|>"


@pytest.fixture
def loaded() -> LoadedModel:
    return load_family(SHAPES["qwen3"].family)


def say(patch: pytest.MonkeyPatch, loaded: LoadedModel, text: str) -> None:
    ids = loaded.tokenizer(text, add_special_tokens=False).input_ids
    script_replies(patch, lambda _request: ids)


def streams(loaded: LoadedModel, ids: list[int]) -> np.ndarray:
    """Return [layers, tokens, d] of a plain pass."""
    seen: list[np.ndarray] = []
    handles = [
        block.register_forward_hook(lambda _m, _i, out: seen.append(block_output(out)[0].float().numpy()))
        for block in loaded.stack.blocks
    ]
    with torch.inference_mode():
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return np.stack(seen)


def run(engine: TransformersEngine, *requests: Request) -> list[Completion]:
    done = {completion.id: completion for completion in engine.run(requests)}
    return [done[request.id] for request in requests]


def ask(engine: TransformersEngine, tokens: str = "answer", **more: object) -> Completion:
    made = Request(
        f"r {tokens}", USER, Sampling(temperature=0, max_new_tokens=20), capture=Capture(), tokens=tokens
    )
    return run(engine, replace(made, **more))[0]  # pyright: ignore


def thinking(loaded: LoadedModel) -> TransformersEngine:
    return TransformersEngine(loaded).with_chat(ChatOptions(thinking=True))


def bounds(done: Completion, part: str) -> range:
    (span,) = (span for span in done.spans if span.part == part)
    return range(span.start, span.end)


def test_thinking_off_is_all_answer(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, loaded, "A poet am I.<|im_end|>")
    done = ask(TransformersEngine(loaded))
    assert (done.text, done.reasoning, done.finish_reason) == ("A poet am I.", "", "stop")
    assert done.spans == ()
    assert done.token_count == len(done.token_ids)
    assert done.left_thinking


@pytest.mark.parametrize("selection", ["answer", "thinking", "response", "all", "prompt", "turn:0"])
@pytest.mark.parametrize("name", ["qwen3", "qwen3_text_tags"])
def test_the_selected_tokens_are_pooled_and_projected(
    name: str, selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_family(SHAPES[name].family)
    say(monkeypatch, loaded, THOUGHT)
    engine = thinking(loaded)
    direction = np.random.default_rng(0).standard_normal(loaded.d_model).astype(np.float32)
    done = ask(engine, selection, probes=(Probe("p", 1, direction),))
    assert (done.text, done.reasoning, done.finish_reason) == ("A poet am I.", "Hm, hm.", "stop")
    rendered = engine._chat().render_with_spans(USER, add_generation_prompt=True)
    n, m = len(rendered.token_ids), len(done.token_ids)
    chosen = {
        "answer": [n + i for i in bounds(done, "answer")],
        "thinking": [n + i for i in bounds(done, "thinking")],
        "response": range(n, n + m),
        "all": range(n + m),
        "prompt": range(n),
        "turn:0": range(rendered.spans[0].start, rendered.spans[0].end),
    }[selection]
    decode = loaded.tokenizer.decode
    assert decode([done.token_ids[i] for i in bounds(done, "answer")]) == "A poet am I."
    assert decode([done.token_ids[i] for i in bounds(done, "thinking")]).strip() == "Hm, hm."
    stream = streams(loaded, [*rendered.token_ids, *done.token_ids])[:, list(chosen)]
    assert done.token_count == len(chosen)
    assert done.pooled is not None
    np.testing.assert_allclose(done.pooled, stream.mean(1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(done.projections["p"], stream[1] @ direction, rtol=1e-4, atol=1e-3)


def test_a_reply_that_never_left_thinking_has_no_answer(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, loaded, "<think>\nHm, hm, hm, hm, hm, hm, hm")
    sampling = Sampling(temperature=0, max_new_tokens=5, max_thinking_tokens=12)
    done = ask(thinking(loaded), sampling=sampling)
    assert (done.text, done.finish_reason, done.left_thinking) == ("", "length", False)
    assert len(done.token_ids) == 12
    assert (done.pooled, done.token_count) == (None, 0)
    assert done.reasoning.startswith("Hm, hm")
    thought = ask(thinking(loaded), "thinking", sampling=sampling)
    assert thought.pooled is not None
    assert thought.token_count == len(bounds(thought, "thinking")) > 3


def test_thinking_and_answer_have_budgets_of_their_own(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, loaded, THOUGHT)
    done = ask(thinking(loaded), sampling=Sampling(temperature=0, max_new_tokens=2, max_thinking_tokens=40))
    assert (done.reasoning, done.finish_reason, done.token_count) == ("Hm, hm.", "length", 2)
    cut = ask(thinking(loaded), sampling=Sampling(temperature=0, max_new_tokens=20, max_thinking_tokens=3))
    assert (cut.text, len(cut.token_ids), cut.left_thinking) == ("", 3, False)


def test_a_text_that_ends_a_reply_is_looked_for_in_the_answer(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, loaded, "<think>\nHm, poet.\n</think>\n\nA poet am I.<|im_end|>")
    done = ask(thinking(loaded), sampling=Sampling(temperature=0, max_new_tokens=40, stop=("poet",)))
    assert (done.text, done.reasoning, done.finish_reason) == ("A ", "Hm, poet.", "stop")
    assert done.pooled is not None


@pytest.mark.parametrize("where", ["thinking", "answer", "response", "prompt", "all"])
def test_a_plan_acts_on_its_part_alone(
    where: str, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, loaded, THOUGHT)
    engine = thinking(loaded)
    direction = np.random.default_rng(1).standard_normal(loaded.d_model).astype(np.float32)
    direction /= np.linalg.norm(direction)
    # The last layer, so that no later token is moved by an earlier one.
    probe = Probe("p", 3, direction)
    plan = Plan((Steer(3, direction, 0.5, tokens=where),))
    plain, moved = (ask(engine, "all", probes=(probe,), plan=one) for one in (None, plan))
    n, m = plain.prompt_tokens, len(plain.token_ids)
    close = loaded.tokenizer.convert_tokens_to_ids("</think>")
    acted = {
        # White space before the mark is known to be no thought once the mark is there.
        "thinking": range(n + bounds(plain, "thinking").start, n + plain.token_ids.index(close)),
        "answer": [n + i for i in bounds(plain, "answer")],
        "response": range(n, n + m),
        "prompt": range(n),
        "all": range(n + m),
    }[where]
    wanted = np.zeros(n + m)
    wanted[list(acted)] = 0.5
    shift = moved.projections["p"] - plain.projections["p"]
    np.testing.assert_allclose(shift, wanted, atol=1e-4)
    # What was read while it ran is what a second pass reads.
    online = ask(engine, "response", probes=(probe,), plan=plan)
    np.testing.assert_allclose(online.projections["p"], moved.projections["p"][n:], atol=1e-4)
    assert moved.plan_digest == plan.digest
    assert moved.cap_stats is not None
    assert moved.cap_stats.tokens == len(acted)


def test_caps_of_a_part_are_counted_there(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, loaded, THOUGHT)
    direction = np.random.default_rng(1).standard_normal(loaded.d_model).astype(np.float32)
    plan = Plan(
        (Cap(1, direction, floor=1e3, tokens="answer"), Cap(2, direction, floor=-1e6, tokens="thinking"))
    )
    done = ask(thinking(loaded), plan=plan)
    close = done.token_ids.index(loaded.tokenizer.convert_tokens_to_ids("</think>"))
    answer, thought = len(bounds(done, "answer")), close - bounds(done, "thinking").start
    assert done.cap_stats is not None
    assert done.cap_stats.fired == {1: answer, 2: 0}
    assert done.cap_stats.tokens == answer + thought


def test_a_gate_on_the_answer_acts_there_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, loaded, THOUGHT)
    direction = np.random.default_rng(1).standard_normal(loaded.d_model).astype(np.float32)
    direction /= np.linalg.norm(direction)
    gate = Plan((Steer(3, direction, 0.5, tokens="answer"),))
    probe = (Probe("p", 3, direction),)
    plain = ask(thinking(loaded), "response", probes=probe)
    gated = ask(thinking(loaded), "response", probes=probe, watch=lambda n, _: gate if n == 1 else None)
    shift = gated.projections["p"] - plain.projections["p"]
    wanted = np.zeros(len(shift))
    wanted[list(bounds(plain, "answer"))] = 0.5
    np.testing.assert_allclose(shift, wanted, atol=1e-4)
    assert gated.gate is not None
    assert (gated.gate.token, gated.gate.cap_stats.tokens) == (2, len(bounds(plain, "answer")))


def test_a_conversation_is_read_by_its_parts(loaded: LoadedModel) -> None:
    engine = thinking(loaded)
    talk = (*USER, Message("assistant", "A poet am I.", reasoning="Hm, hm."))
    rendered = engine._chat().render_with_spans(talk)
    stream = streams(loaded, list(rendered.token_ids))
    (thought,) = rendered.thinking
    for tokens, span in (("answer", rendered.spans[1]), ("thinking", thought)):
        turn = engine.observe(talk, capture=Capture(), tokens=tokens)[1]
        assert turn.pooled is not None
        np.testing.assert_allclose(
            turn.pooled, stream[:, span.start : span.end].mean(1), rtol=1e-4, atol=1e-4
        )
        assert turn.token_count == span.end - span.start
    asked = engine.observe(talk, capture=Capture(), tokens="thinking")[0]
    assert (asked.pooled, asked.token_count) == (None, 0)
    direction = np.random.default_rng(1).standard_normal(loaded.d_model).astype(np.float32)
    direction /= np.linalg.norm(direction)
    plan = Plan((Steer(3, direction, 0.5, tokens="thinking"),))
    probe = (Probe("p", 3, direction),)
    for tokens, moved in (("thinking", 0.5), ("answer", 0.0)):
        plain, acted = (
            engine.observe(talk, probes=probe, plan=one, tokens=tokens)[1].projections["p"]
            for one in (None, plan)
        )
        np.testing.assert_allclose(acted - plain, moved, atol=1e-4)


def test_selections_that_there_are_not_are_refused(loaded: LoadedModel) -> None:
    engine = TransformersEngine(loaded)
    with pytest.raises(UsageError, match="no selection of tokens 'thoughts'"):
        ask(engine, "thoughts")
    with pytest.raises(UsageError, match="turn:3 names a message of a conversation of 1"):
        ask(engine, "turn:3")
    with pytest.raises(EngineError, match="thinking of a reply"):
        list(engine.run([Request("r", (1, 2, 3), tokens="thinking")]))
    plain = TransformersEngine(load_family(SHAPES["llama32"].family))
    for part in ("thinking", "tool_calls"):
        with pytest.raises(EngineError, match="replies here have none"):
            ask(plain, part)
    with pytest.raises(EngineError, match="tool calls of a reply"):
        ask(TransformersEngine(load_family(SHAPES["r1_distill"].family)), "tool_calls")
    direction = np.ones(plain.loaded.d_model, np.float32)
    with pytest.raises(EngineError, match="thinking of a reply"):
        ask(plain, plan=Plan((Steer(1, direction, 0.1, tokens="thinking"),)))
    with pytest.raises(EngineError, match="thinking tokens"):
        ask(engine, sampling=Sampling(max_thinking_tokens=0))


def test_a_watch_sees_the_answer_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, loaded, THOUGHT)
    seen: list[tuple[int, float]] = []
    done = ask(
        thinking(loaded),
        probes=(Probe("p", 1, np.ones(loaded.d_model, np.float32)),),
        watch=lambda number, values: seen.append((number, values["p"])),
    )
    assert [number for number, _ in seen] == list(range(done.token_count))
    np.testing.assert_allclose([value for _, value in seen], done.projections["p"], rtol=1e-5)


def test_a_reply_in_channels_ends_where_the_generation_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = ("<|return|>", "<|endoftext|>", "<|call|>")
    loaded = load_family(SHAPES["harmony"].family, eos=ends)
    assert set(loaded.tokenizer.convert_ids_to_tokens(sorted(loaded.eos_token_ids))) == set(ends)
    engine = TransformersEngine(loaded)
    header = "<|start|>assistant<|channel|>final<|message|>"
    say(monkeypatch, loaded, f"<|channel|>analysis<|message|>Hm, hm.<|end|>{header}A poet am I.<|return|>")
    done = ask(engine)
    assert (done.text, done.reasoning, done.finish_reason) == ("A poet am I.", "Hm, hm.", "stop")
    rendered = engine._chat().render_with_spans(USER, add_generation_prompt=True)
    stream = streams(loaded, [*rendered.token_ids, *done.token_ids])
    for selection, text in (("answer", "A poet am I."), ("thinking", "Hm, hm.")):
        got = ask(engine, selection)
        places = [len(rendered.token_ids) + i for i in bounds(done, selection)]
        assert loaded.tokenizer.decode([done.token_ids[i] for i in bounds(done, selection)]) == text
        assert got.pooled is not None
        np.testing.assert_allclose(got.pooled, stream[:, places].mean(1), rtol=1e-4, atol=1e-4)
    call = "<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>"
    say(monkeypatch, loaded, f"<|channel|>analysis<|message|>Hm.<|end|>{call}")
    done = ask(engine)
    assert (done.text, done.tool_calls, done.finish_reason, done.left_thinking) == ("", "{}", "stop", True)
    # A header that never ends holds no answer, and the reply ends where it says so.
    say(monkeypatch, loaded, "<|channel|>Q<|message|>Z<|end|><|start|>WX<|return|>")
    done = ask(engine)
    assert (done.text, done.finish_reason, done.left_thinking) == ("", "stop", True)


def test_the_tokens_of_a_part_are_counted_whatever_other_rows_do(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another row may end in the very step after which this row's next token is in another part."""
    text = loaded.tokenizer(THOUGHT, add_special_tokens=False).input_ids
    direction = np.random.default_rng(1).standard_normal(loaded.d_model).astype(np.float32)
    plan = Plan((Steer(0, direction, 0.1, tokens="prompt"), Cap(2, direction, floor=1e3, tokens="thinking")))
    alone: Completion | None = None
    for length in range(len(text)):
        script_replies(
            monkeypatch, lambda request, n=length: text if request.id == "long" else [*text[:n], text[-1]]
        )
        sampling = Sampling(temperature=0, max_new_tokens=40)
        both = [
            Request(name, USER, sampling, plan=plan if name == "long" else None) for name in ("long", "short")
        ]
        done, other = run(thinking(loaded), *both)
        assert len(other.token_ids) == length
        assert done.cap_stats is not None
        if alone is None:
            alone = done
            close = loaded.tokenizer.convert_tokens_to_ids("</think>")
            thoughts = done.token_ids.index(close) - bounds(done, "thinking").start
            # The prompt is steered, and caps act on the thoughts alone.
            assert done.cap_stats.tokens == done.prompt_tokens + thoughts
            assert done.cap_stats.capped_tokens == thoughts
        assert alone is not None
        assert done.cap_stats == alone.cap_stats
