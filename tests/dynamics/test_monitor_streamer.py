"""The streamer of plain ``model.generate``: what it reads, when it acts, and that it leaves no hook."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monitor_case import save_monitor_map, token_talks
from transformers.generation.streamers import BaseStreamer

from personascope.dynamics.monitor import DriftStreamer, Monitor, Threshold
from personascope.dynamics.monitor._events import MonitorSource
from personascope.engines import Completion, Probe, Request, Sampling, TransformersEngine
from personascope.errors import DynamicsError, InterventionError
from personascope.interventions import BatchedPlans, Cap, CapCounters, Plan, PlanTable, Steer, TokenSpans
from personascope.models import block_output, layer_stack, replace_block_output, steered
from tiny import load_tiny

PROMPT = torch.tensor([[5, 9, 12, 40, 41]])
LAYER, NEW = 1, 12
DOCS = Path(__file__).parents[2] / "docs" / "monitor.md"


def unit(d: int, seed: int = 0) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(d)
    return (v / np.linalg.norm(v)).astype(np.float32)


def quiet(limit: float = -1e6, **options: Any) -> Monitor:
    """A monitor in raw units that raises its alarm under a limit."""
    options = {"layer": LAYER, "units": (0.0, 1.0), **options}
    return Monitor(Threshold("token", limit), **options)


def generate(model: Any, ids: torch.Tensor = PROMPT, new: int = NEW, **options: Any) -> torch.Tensor:
    return model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        pad_token_id=0,
        **options,
    )


def hooks(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def read_again(model: Any, out: torch.Tensor, direction: np.ndarray, plan: Plan | None, start: int) -> list:
    """Project every response token in one pass over the whole text, a plan acting from ``start`` on."""
    stack = layer_stack(model)
    seen: list[torch.Tensor] = []
    edit = None
    if plan is not None:
        plan = Plan(tuple(replace(op, tokens="response") for op in plan.ops))
        table = PlanTable([plan], response_only=False)
        edit = BatchedPlans(table, [plan], CapCounters(1), [TokenSpans(PROMPT.shape[1] + start)])
        edit.at(torch.arange(out.shape[1])[None], None)

    def hook(layer: int):
        def at(_module: Any, _inputs: Any, output: Any) -> Any:
            if edit is not None and layer in edit.layers:
                output = replace_block_output(output, edit(layer, block_output(output)))
            if layer == LAYER:
                seen.append(block_output(output)[0])
            return output

        return at

    handles = [block.register_forward_hook(hook(layer)) for layer, block in enumerate(stack.blocks)]
    try:
        with torch.inference_mode():
            model(input_ids=out, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return (seen[0][PROMPT.shape[1] : -1] @ torch.from_numpy(direction)).tolist()


def lowest(raws: list[float]) -> tuple[int, float]:
    """Return a token that is the lowest so far, not the first, and a limit that it alone so far is under."""
    for token in range(2, len(raws) - 3):
        before = min(raws[:token])
        if raws[token] < before:
            return token, (raws[token] + before) / 2
    raise AssertionError(f"no token of {raws} is the lowest so far")


def direction_with_a_low(model: Any) -> tuple[np.ndarray, list[float], torch.Tensor]:
    """Return a direction whose projections fall to a new low inside the reply, with those and the text."""
    out = generate(model)
    d = model.config.hidden_size
    for seed in range(30):
        raws = read_again(model, out, unit(d, seed), None, 0)
        try:
            lowest(raws)
        except AssertionError:
            continue
        return unit(d, seed), raws, out
    raise AssertionError("no direction has a low")


class Listener(BaseStreamer):
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ends = 0

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.reshape(-1).tolist()

    def end(self) -> None:
        self.ends += 1


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_what_is_read_equals_a_pass_over_the_whole_text(name: str) -> None:
    model = load_tiny(name).model
    plain = generate(model, new=40)
    direction, inner, monitor = unit(model.config.hidden_size), Listener(), quiet()
    with DriftStreamer(model, monitor, direction=3 * direction, inner=inner) as streamer:
        out = generate(model, new=40, streamer=streamer)
    assert torch.equal(out, plain)
    # The last token was drawn and never passed through the model.
    assert len(streamer.projections) == 39 == monitor.n
    wanted = read_again(model, out, direction, None, 0)
    assert streamer.projections == pytest.approx(wanted, abs=2e-4)
    assert inner.tokens == out[0].tolist() and inner.ends == 1
    assert monitor.events == [] and streamer.gate is None


def test_a_map_gives_direction_and_units(tmp_path: Path) -> None:
    loaded = load_tiny("llama")
    found = save_monitor_map(tmp_path / "map")
    monitor = Monitor.for_map(Threshold("token", -1e6), found, layer=LAYER)
    seen: list[float] = []
    feed = monitor.feed
    monitor.feed = lambda position: (seen.append(position), feed(position))[1]  # type: ignore[method-assign]
    with DriftStreamer(loaded, monitor, persona_map=found) as streamer:
        out = generate(loaded.model, streamer=streamer)
    wanted = read_again(loaded.model, out, found.unit_axis(LAYER), None, 0)
    assert streamer.projections == pytest.approx(wanted, abs=2e-4)
    assert seen == pytest.approx([float(found.to_units(raw, LAYER)) for raw in wanted], abs=1e-3)
    other = save_monitor_map(tmp_path / "other", n_layers=4)
    with pytest.raises(DynamicsError, match="units of the map"):
        DriftStreamer(loaded, monitor, persona_map=other)


def test_the_reply_stops_one_token_after_the_alarm() -> None:
    model = load_tiny("llama").model
    direction, raws, plain = direction_with_a_low(model)
    token, limit = lowest(raws)
    monitor, inner = quiet(limit, on_alarm="stop"), Listener()
    with DriftStreamer(model, monitor, direction=direction, inner=inner) as streamer:
        out = generate(model, streamer=streamer, stopping_criteria=streamer.stopping)
    length = PROMPT.shape[1] + token + 2
    assert torch.equal(out, plain[:, :length]) and inner.tokens == out[0].tolist()
    assert [(e.kind, e.reply, e.token) for e in monitor.events] == [("alarm", 0, token), ("stop", 0, token)]
    assert len(streamer.projections) == token + 1
    assert hooks(model) == 0


def test_a_gate_changes_nothing_before_and_acts_on_every_token_after() -> None:
    model = load_tiny("llama").model
    direction, raws, plain = direction_with_a_low(model)
    token, limit = lowest(raws)
    floor = max(raws) + 1.0
    plan = Plan(
        (Cap(LAYER, direction, floor=floor), Steer(3, unit(48, 99), 6.0), Cap(0, direction, floor=0.3))
    )
    monitor = quiet(limit, on_alarm=plan)
    with DriftStreamer(model, monitor, direction=direction) as streamer:
        out = generate(model, streamer=streamer)
        assert hooks(model) == 3
    drawn = PROMPT.shape[1] + token + 2
    assert torch.equal(out[:, :drawn], plain[:, :drawn]) and not torch.equal(out, plain)
    assert streamer.projections[: token + 1] == pytest.approx(raws[: token + 1], abs=2e-4)
    assert streamer.projections[token + 1 :] == pytest.approx([floor] * (NEW - token - 2), abs=1e-4)
    assert streamer.projections == pytest.approx(read_again(model, out, direction, plan, token + 1), abs=5e-4)
    assert [(e.kind, e.token) for e in monitor.events] == [("alarm", token), ("gate", token)]
    gate = streamer.gate
    assert gate is not None and (gate.token, gate.plan_digest) == (token + 1, plan.digest)
    assert gate.cap_stats.tokens == NEW - token - 2 == gate.cap_stats.fired[LAYER]
    assert hooks(model) == 0


def test_a_gate_stays_for_the_replies_that_follow() -> None:
    model = load_tiny("llama").model
    direction, raws, _ = direction_with_a_low(model)
    token, limit = lowest(raws)
    plan = Plan((Cap(LAYER, direction, floor=max(raws) + 1.0),))
    monitor = quiet(limit, on_alarm=plan)
    with DriftStreamer(model, monitor, direction=direction) as streamer:
        out = generate(model, streamer=streamer)
        assert streamer.gate is not None and streamer.gate.token == token + 1
        # The next turn of the conversation: everything so far is its prompt.
        generate(model, out, streamer=streamer)
    assert streamer.gate is not None and streamer.gate.token == 1
    assert streamer.projections[1:] == pytest.approx([max(raws) + 1.0] * (NEW - 2), abs=1e-4)
    assert [(e.kind, e.reply, e.token) for e in monitor.events if e.kind == "gate"] == [
        ("gate", 0, token),
        ("gate", 1, 0),
    ]
    assert monitor.n == 2 * (NEW - 1)


def test_an_engine_with_a_watch_reads_and_does_the_same() -> None:
    model = load_tiny("llama").model
    direction, raws, plain = direction_with_a_low(model)
    token, limit = lowest(raws)
    plan = Plan((Cap(LAYER, direction, floor=max(raws) + 1.0), Steer(3, unit(48, 99), 6.0)))
    streamed, watched = (quiet(limit, on_alarm=plan) for _ in range(2))
    with DriftStreamer(model, streamed, direction=direction) as streamer:
        out = generate(model, streamer=streamer)

    def run(monitor: Monitor) -> Completion:
        sampling = Sampling(temperature=0.0, max_new_tokens=NEW, min_new_tokens=NEW)
        probes = (Probe("axis", LAYER, direction),)
        prompt = tuple(PROMPT[0].tolist())
        (done,) = engine.run([Request("r", prompt, sampling, probes=probes, watch=monitor.watch())])
        return done

    engine = TransformersEngine(load_tiny("llama"))
    done = run(watched)
    assert list(done.token_ids) == out[0, PROMPT.shape[1] :].tolist()
    # An engine feeds the last token too.
    assert done.projections["axis"][:-1] == pytest.approx(streamer.projections, abs=1e-3)
    assert done.gate is not None and streamer.gate is not None
    assert (done.gate.token, done.gate.plan_digest) == (token + 1, plan.digest)
    assert streamer.gate.token == token + 1
    mine, theirs = ([(e.kind, e.n, e.token) for e in m.events] for m in (streamed, watched))
    assert mine == theirs == [("alarm", token + 1, token), ("gate", token + 1, token)]
    stopped = run(quiet(limit, on_alarm="stop"))
    assert stopped.finish_reason == "alarm"
    assert list(stopped.token_ids) == plain[0, PROMPT.shape[1] :][: token + 1].tolist()


def test_a_prompt_that_the_cache_holds_already_is_no_reply() -> None:
    model = load_tiny("llama").model
    direction = unit(48)
    with DriftStreamer(model, quiet(), direction=direction) as streamer:
        first = generate(model, streamer=streamer, return_dict_in_generate=True)
        more = torch.cat([first.sequences, torch.tensor([[7, 8, 9]])], dim=1)
        cached = generate(model, more, streamer=streamer, past_key_values=first.past_key_values)
        kept = list(streamer.projections)
        plain = generate(model, more, streamer=streamer)
    assert torch.equal(cached, plain)
    assert len(kept) == NEW - 1 and kept == pytest.approx(streamer.projections, abs=2e-4)


def test_under_a_plan_of_its_own_the_model_is_read_as_the_next_layer_sees_it() -> None:
    model = load_tiny("llama").model
    direction = unit(48)
    plan = Plan((Cap(LAYER, direction, floor=50.0),))
    with steered(model, plan), DriftStreamer(model, quiet(), direction=direction) as streamer:
        generate(model, streamer=streamer)
    assert streamer.projections == pytest.approx([50.0] * (NEW - 1), abs=1e-3)


def test_what_a_callback_raises_comes_through_and_no_hook_stays() -> None:
    model = load_tiny("llama").model
    direction, raws, plain = direction_with_a_low(model)
    token, limit = lowest(raws)

    def fail(_state: object) -> None:
        raise ZeroDivisionError("mine")

    monitor = quiet(limit, on_alarm=fail)
    with (
        pytest.raises(ZeroDivisionError, match="mine"),
        DriftStreamer(model, monitor, direction=direction) as streamer,
    ):
        generate(model, streamer=streamer)
    assert hooks(model) == 0 and monitor.n == token + 1
    assert torch.equal(generate(model), plain)


def test_what_a_streamer_cannot_follow_is_refused_by_name() -> None:
    model = load_tiny("llama").model
    direction = unit(48)

    def run(monitor: Monitor, ids: torch.Tensor = PROMPT, **options: Any) -> None:
        with DriftStreamer(model, monitor, direction=direction) as streamer:
            generate(model, ids, streamer=streamer, **options)

    def outside() -> None:
        generate(model, streamer=DriftStreamer(model, quiet(), direction=direction))

    def make(monitor: Monitor, **options: Any) -> None:
        DriftStreamer(model, monitor, **{"direction": direction, **options})

    far = Plan((Cap(9, direction, floor=1.0),))
    turn = Plan((Cap(1, direction, floor=1.0, tokens="turn:2"),))
    theirs = MonitorSource("some/model", "abc")
    for error, text, call in [
        (DynamicsError, "2 sequences at once", lambda: run(quiet(), PROMPT.repeat(2, 1))),
        (DynamicsError, "generate does not ask it", lambda: run(quiet(on_alarm="stop"))),
        (DynamicsError, "generate does not ask it", lambda: run(quiet(1e6, on_alarm=lambda _: "stop"))),
        (DynamicsError, "holds 6 tokens", lambda: run(quiet(), use_cache=False)),
        (DynamicsError, "outside of its with block", outside),
        (DynamicsError, "either persona_map= or direction=", lambda: make(quiet(), direction=None)),
        (DynamicsError, "monitor of turns", lambda: make(Monitor(Threshold("turn", 0.0), layer=1))),
        (DynamicsError, "reads layer 5, the model has 5", lambda: make(quiet(layer=5))),
        (DynamicsError, "is 8 wide", lambda: make(quiet(), direction=unit(8))),
        (DynamicsError, "does not know the units", lambda: make(quiet(units=None))),
        (DynamicsError, "of the model 'some/model'", lambda: make(quiet(source=theirs))),
        (DynamicsError, "acts from turn:2 on", lambda: make(quiet(on_alarm=turn))),
        (InterventionError, "acts at layer 9", lambda: make(quiet(on_alarm=far))),
        (InterventionError, "acts at layer 9", lambda: run(quiet(1e6, on_alarm=lambda _: far))),
    ]:
        with pytest.raises(error, match=text):
            call()
        assert hooks(model) == 0


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert len(blocks) == 3
    rng = np.random.default_rng(0)
    loaded = load_tiny("llama")
    names: dict[str, Any] = {
        "assistant_like": token_talks(rng, 120, 3, 20),
        "switched": [
            ([x - 2.0 * (r == 2) for r, x in enumerate(one)], 2) for one in token_talks(rng, 20, 3, 20)
        ],
        "model": loaded.model,
        "engine": TransformersEngine(load_tiny("llama")),
        "inputs": {"input_ids": PROMPT, "max_new_tokens": 6, "pad_token_id": 0},
        "persona_map": save_monitor_map(tmp_path / "map", model=type(loaded.model).__name__, revision=""),
        "plan": Plan((Cap(2, unit(48), floor=1.0),)),
    }
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert (tmp_path / "monitor.json").exists()
