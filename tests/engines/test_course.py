"""The course of a reply in a worker: parts, limits and gates, however vLLM cuts it into steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from personascope.engines import Alarm, Probe
from personascope.engines._vllm._admission import AdmissionCheck
from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._reply_spec import GateSpec, ReplySpec, check_tail
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import Spec, parse_spec
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan, Steer

PARTS = ("response", "answer", "thinking", "tool_calls")
D, LAYERS, TOKENS = 16, 3, 64
MARKS = ReplySpec("thinking", ("<t>", "</t>"), None, ("<c>", "</c>"))


class Vocabulary:
    """A tokenizer of a few words; "</t>" is one token, or two."""

    words = ("<t>", "</t>", "<c>", "</c>", "</", "t>", "\n", *(f"w{n}" for n in range(9)))

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        del skip_special_tokens
        return "".join(self.words[token] for token in ids)


@dataclass(eq=False)
class Case:
    """One request: its tokens, and the residual stream that they have, [layers, tokens, d]."""

    name: str
    spec: Spec
    prompt: int
    tokens: np.ndarray
    stream: torch.Tensor
    at: int = 0


def drawn(
    rng: np.random.Generator, number: int, plans: list[str], probes: str, gates: list[str] | None = None
) -> Case:
    prompt, response = int(rng.integers(1, 8)), int(rng.integers(4, 40))
    gate = None
    if rng.random() < 0.7:
        if rng.random() < 0.5:
            alarm = Alarm(-0.5, 1.5, float(rng.uniform(0, 3)), mean=(0.3, 0.0), spread=(0.5,), allowance=0.1)
        else:
            alarm = Alarm(0.0, 1.0, float(rng.uniform(-0.5, 0.5)), window=int(rng.integers(1, 5)))
        heard = str(rng.choice(["response", "answer", "thinking"]))
        gate = GateSpec(str(rng.choice(gates or plans)) if rng.random() < 0.7 else None, "a", heard, alarm)
    limits = {}
    if rng.random() < 0.5:
        limits = {"answer_tokens": int(rng.integers(1, 12)), "thinking_tokens": int(rng.integers(1, 20))}
    spec = Spec(
        f"k{number}",
        plan=str(rng.choice(plans)) if rng.random() < 0.7 else None,
        turns=(0,),
        pool=bool(rng.random() < 0.7),
        probes=probes,
        reply=replace(MARKS, **limits),
        # A gate hears what is read.
        select=str(rng.choice(PARTS)) if gate is None else str(rng.choice(["response", gate.tokens])),
        gate=gate,
    )
    tokens = rng.integers(0, len(Vocabulary.words), prompt + response)
    stream = torch.from_numpy(rng.standard_normal((LAYERS, prompt + response, D)).astype(np.float32))
    return Case(f"r{number}", spec, prompt, tokens, stream)


def step(runtime: Runtime, cases: list[Case], lengths: list[int]) -> list[torch.Tensor]:
    """Run one step, and return the stream of each layer after it."""
    known = {case.name: case for case in cases}
    starts = np.concatenate([[0], np.cumsum(lengths)])
    computed = np.array([case.at for case in cases])
    ids = np.concatenate([c.tokens[c.at : c.at + n] for c, n in zip(cases, lengths, strict=True)])
    runtime.begin_step(
        list(known),
        starts,
        computed,
        lambda name: (known[name].prompt, known[name].spec.extra_args()),
        lambda: ids,
    )
    starts[:], computed[:] = -1, -1
    streams: list[torch.Tensor] = []
    with torch.inference_mode():
        for layer in range(LAYERS):
            part = torch.cat([c.stream[layer, c.at : c.at + n] for c, n in zip(cases, lengths, strict=True)])
            runtime.layer(layer, part, None)
            streams.append(part)
    runtime.end_step()
    for case, length in zip(cases, lengths, strict=True):
        case.at += length
    return streams


def ended(runtime: Runtime, case: Case) -> Reading:
    runtime.finish(case.name)
    return read_results([runtime.fetch([case.spec.key])])[case.spec.key]


def alone(runtime: Runtime, case: Case) -> Reading:
    """Run a request alone, its prompt in one step and then token by token."""
    step(runtime, [case], [case.prompt])
    while case.at < case.stream.shape[1]:
        step(runtime, [case], [1])
    return ended(runtime, case)


def same(got: Reading, want: Reading) -> None:
    assert (got.counts, got.read, got.gate_at, got.stopped) == (
        want.counts,
        want.read,
        want.gate_at,
        want.stopped,
    )
    for one, other in ((got.cap_counts, want.cap_counts), (got.gate_counts, want.gate_counts)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.tokens, one.capped) == (other.tokens, other.capped)
            for layer in range(LAYERS):
                assert one.fired.get(layer, 0) == other.fired.get(layer, 0)
    if want.sums is not None:
        np.testing.assert_allclose(got.sums, want.sums, rtol=1e-5, atol=2e-5)
    for a, b in zip(got.projections, want.projections, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


def setting(folder) -> tuple[dict[str, Any], list[str], str, PlanStore]:
    # Orthogonal, so that both flavours can hold all caps together.
    v = np.linalg.qr(np.random.default_rng(1).standard_normal((D, 4)))[0].T.astype(np.float32) * 3
    plans = [
        Plan((Cap(0, v[0], floor=0.3), Cap(2, v[1], ceiling=0.1))),
        Plan((Cap(1, v[2], floor=0.2, tokens="thinking"), Steer(1, v[0], strength=0.5, tokens="answer"))),
        Plan((Steer(0, v[3], strength=0.1, tokens="tool_calls"), Cap(2, v[2], floor=0.1, tokens="response"))),
        Plan((Cap(1, v[0], floor=0.4), Cap(1, v[1], floor=0.4, tokens="answer"))),
    ]
    store = PlanStore(folder)
    digests = [store.put(plan) for plan in plans]
    probes = store.put(ProbeSet.of([Probe("a", 0, v[0]), Probe("b", 2, v[1])]))
    common = {
        "d_model": D,
        "tokens": TOKENS,
        "device": torch.device("cpu"),
        "store": store,
        "layers": range(LAYERS),
        "tokenizer": Vocabulary,
    }
    return common, digests, probes, store


def cut(
    rng: np.random.Generator, cases: list[Case], runtimes: list[Runtime]
) -> Iterator[tuple[Case, list[Reading], list[list[torch.Tensor]]]]:
    """Run cases a few at a time, with chunks, preemptions and changes of order, in each runtime alike.

    Yields each case that ended with its results, and the streams of the last step.
    """
    waiting, running = list(cases), []
    while waiting or running:
        if waiting and (not running or (len(running) < 5 and rng.random() < 0.2)):
            running.append(waiting.pop(0))
        if rng.random() < 0.06:
            running[int(rng.integers(len(running)))].at = 0
        if rng.random() < 0.05:
            rng.shuffle(running)
        here = list(running if rng.random() < 0.9 else running[:1])
        lengths: list[int] = []
        for case in here:
            record = runtimes[0].records.get(case.name)
            # Tokens that passed before may pass in one chunk; new ones of a response come one by one.
            left = max(case.prompt, 0 if record is None else record.seen) - case.at
            lengths.append(1 if left < 1 else int(rng.integers(1, min(left, 12) + 1)))
        places = [case.at for case in here]
        streams: list[list[torch.Tensor]] = []
        for runtime in runtimes:
            for case, place in zip(here, places, strict=True):
                case.at = place
            streams.append(step(runtime, here, lengths))
        for case in [case for case in here if case.at == case.stream.shape[1]]:
            running.remove(case)
            yield case, [ended(runtime, case) for runtime in runtimes], streams


@pytest.mark.parametrize("seed", range(12))
def test_steps_of_any_kind_give_what_token_by_token_gives(seed: int, tmp_path) -> None:
    rng = np.random.default_rng(seed)
    common, digests, probes, _ = setting(tmp_path)
    runtime = Runtime(**common)
    gates = ends = 0
    cases = [drawn(rng, number, digests, probes) for number in range(14)]
    for case, (got,), _ in cut(rng, cases, [runtime]):
        again = Case(case.name, case.spec, case.prompt, case.tokens, case.stream)
        same(got, alone(Runtime(**common), again))
        gates += got.gate_at is not None
        ends += got.stopped is not None
    assert gates + ends >= 2
    stats = runtime.stats()
    assert stats["requests"] == 0 and stats["cap_counts"] == stats["free_cap_counts"]


def test_the_scheduler_is_told_once_that_a_reply_is_over(tmp_path) -> None:
    common, _, probes, _ = setting(tmp_path)
    runtime = Runtime(**common)
    limits = replace(MARKS, answer_tokens=3, thinking_tokens=5)
    # The prompt, "w0 w1 </t> w2 w3 w4 w5 w6": three answer tokens are over at w4.
    tokens = np.array([9, 9, 7, 8, 1, 9, 10, 11, 12, 13])
    for last, key in ((True, "k"), (False, "m")):
        spec = Spec(key, probes=probes, reply=replace(limits, last=last))
        case = Case(key, spec, 2, tokens, torch.zeros(LAYERS, len(tokens), D))
        told: list[int] = []
        step(runtime, [case], [2])
        while case.at < len(tokens):
            step(runtime, [case], [1])
            told += [case.at - 3] * len(runtime.take_over())
        assert told == [5]
        assert ended(runtime, case).counts == [6 if last else 5]


def test_a_gate_acts_from_the_next_token_on_and_on_recomputed_ones(tmp_path) -> None:
    common, _, probes, store = setting(tmp_path)
    v = np.eye(D, dtype=np.float32)
    gate = store.put(Plan((Steer(1, v[2], strength=7.0),)))
    axis = store.put(ProbeSet.of([Probe("a", 0, v[0])]))
    del probes
    spec = Spec("k", probes=axis, gate=GateSpec(gate, "a", "response", Alarm(0.0, 1.0, -0.5)))
    stream = torch.zeros(LAYERS, 9, D)
    stream[0, :, 0] = torch.tensor([9.0, 9.0, 1, 1, 1, 0.2, 1, 1, 1])  # low at position 5
    case = Case("r", spec, 2, np.full(9, 8), stream)
    runtime = Runtime(**common)
    moved: list[float] = []
    for length in (2, 1, 1, 1, 1, 1):
        moved += step(runtime, [case], [length])[1][:, 2].tolist()
    assert moved == [0, 0, 0, 0, 0, 0, 7.0]
    case.at = 0  # preempted: all passes again, and the same is done to each token
    assert step(runtime, [case], [7])[1][:, 2].tolist() == [0, 0, 0, 0, 0, 0, 7.0]
    step(runtime, [case], [1])
    got = ended(runtime, case)
    assert (got.gate_at, got.prompt) == (6, 2)
    assert got.gate_counts is not None and got.gate_counts.tokens == 2
    assert got.projections[0][:, 0].tolist() == pytest.approx([1, 1, 1, 0.2, 1, 1])


def test_the_spec_of_a_gate_is_read_back_and_checked() -> None:
    alarm = Alarm(0.0, 1.0, 2.0, True, (0.1, 0.2), (1.0, 2.0), 3, 0.5, 0.9, 0.1, 1, 0.4, 0.3, 4, (0.1, 0.2))
    channels = ("<s>", "<c>", "<m>", ("<e>",), "analysis", "final")
    spec = Spec(
        "k",
        plan="p",
        probes="q",
        reply=ReplySpec("header", channels=channels, answer_tokens=3, last=False, tail=(4, 5)),
        select="thinking",
        gate=GateSpec("g", "axis", "answer", alarm),
    )
    assert parse_spec(spec.extra_args()) == spec
    fixed = Spec("k", plan="p", parts=((0, "prompt"), (4, "answer")), gate=GateSpec("g", at=7))
    assert parse_spec(fixed.extra_args()) == fixed
    assert Alarm.from_record(alarm.record()) == alarm
    for change, says in (
        ({"threshold": float("nan")}, "threshold"),
        ({"one": 0.0}, "same projection"),
        ({"spread": (1.0, 0.0)}, "spread"),
        ({"spread": ()}, "together"),
        ({"window": 0}, "window"),
        ({"seen": 9}, "warmup"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"mean": "abc"}, "no list"),
        ({"at_once": 1}, "at_once"),
        ({"warmup": True}, "warmup"),
    ):
        with pytest.raises(EngineError, match=says):
            Alarm.from_record(alarm.record() | change)
    base = {"key": "k", "gate": {"plan": "g", "probe": "a", "alarm": alarm.record()}}
    for change, says in (
        ({"gate": {"plan": "g"}}, "neither an alarm"),
        ({"gate": {**base["gate"], "tokens": "prompt"}}, "reads 'prompt'"),  # pyright: ignore
        ({"gate": 3}, "no object"),
        ({"reply": {"opened": "never"}}, "opened"),
        ({"reply": {"opened": "answer", "thinking": ["", "x"]}}, "marks"),
        ({"reply": {"opened": "answer", "channels": [1, 2, 3, [], 4, 5]}}, "no texts"),
        ({"parts": [[3, "answer"], [2, "thinking"]]}, "part"),
        ({"select": "prompt"}, "selects"),
    ):
        with pytest.raises(EngineError, match=says):
            parse_spec({"personascope": base | change})


def test_admission_refuses_what_a_course_cannot_do(tmp_path) -> None:
    _, digests, probes, store = setting(tmp_path)
    check = AdmissionCheck(PluginConfig(str(tmp_path)), LAYERS, D, "float32")
    gate = GateSpec(digests[0], "a", "response", Alarm(0.0, 1.0, 0.0))
    check.check(Spec("k", probes=probes, gate=gate), store)
    before = store.put(Plan((Steer(0, np.ones(D, np.float32), strength=1.0, tokens="prompt"),)))
    turn = store.put(Plan((Steer(0, np.ones(D, np.float32), strength=1.0, tokens="turn:1"),)))
    for spec, says in (
        (Spec("k", plan=digests[1]), "acts on the thinking"),
        (Spec("k", gate=gate), "probe 'a'"),
        (Spec("k", probes=probes, gate=GateSpec(before, "a", "response", gate.alarm)), "prompt alone"),
        (Spec("k", probes=probes, gate=GateSpec(turn, "a", "response", gate.alarm)), "turn:1"),
        (
            Spec("k", probes=probes, gate=GateSpec(digests[0], "a", "thinking", gate.alarm)),
            "reads the thinking",
        ),
        (Spec("k", probes=probes, gate=GateSpec("0" * 64, "a", "response", gate.alarm)), "no plan"),
    ):
        with pytest.raises(EngineError, match=says):
            check.check(spec, store)
    bare = AdmissionCheck(PluginConfig(str(tmp_path)), LAYERS, D, "float32", tokenizer=False)
    with pytest.raises(EngineError, match="without a tokenizer"):
        bare.check(Spec("k", plan=digests[1], reply=MARKS), store)
    spread = AdmissionCheck(PluginConfig(str(tmp_path)), LAYERS, D, "float32", pipeline=True)
    with pytest.raises(EngineError, match="pipeline"):
        spread.check(Spec("k", probes=probes, gate=gate), store)
    tight = Limits(plans=2, slots=3)
    one = Spec("a", plan=digests[0], probes=probes, gate=gate)
    with pytest.raises(EngineError, match="2 plans are under way"):
        tight.check_room(Spec("b", plan=digests[1]), [one])
    with pytest.raises(EngineError, match="requests with a plan"):
        Limits(slots=3).check_room(Spec("b", probes=probes, gate=gate), [one])


def test_keys_and_values_under_a_gate_or_on_parts_have_a_salt_of_their_own() -> None:
    gates = [GateSpec("g", "a", "response", Alarm(0.0, 1.0, limit)) for limit in (1.0, 2.0)]
    everywhere = [Spec("k", "p"), *(Spec("k", "p", probes="q", gate=gate) for gate in gates)]
    assert len({spec.salt(5, True) for spec in everywhere}) == 3
    assert len({everywhere[1].salt(length, True) for length in (5, 6)}) == 2
    # Limits decide where a reply ends, not what is done to its tokens.
    long, short = (
        Spec("k", "p", reply=ReplySpec("thinking", ("<t>", "</t>"), answer_tokens=n)) for n in (3, 4)
    )
    other = Spec("k", "p", reply=ReplySpec("answer", ("<t>", "</t>")))
    assert long.salt(5, False, True) == short.salt(5, False, True) != other.salt(5, False, True)


def test_a_prompt_that_ends_otherwise_is_refused() -> None:
    tail = ReplySpec("answer", tail=(7, 8))
    check_tail(tail, [1, 2, 7, 8])
    check_tail(None, None)
    for prompt in ([7, 8, 9], [8], None):
        with pytest.raises(EngineError, match="generation prompt"):
            check_tail(tail, prompt)
