from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="the extra evals is not installed")

from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM

from personascope.chat import Message
from personascope.engines import Completion, Request, Scored, ScoreRequest, TransformersEngine
from personascope.errors import EngineError, EvaluationError, InterventionError, UsageError
from personascope.evals.harness import PersonascopeLM, capability
from personascope.evals.harness._options import sampling_of
from personascope.interventions import Cap, Plan, PlanModel, Steer
from tiny import load_tiny, save_tiny, tiny_tokenizer

WIDTH = 48
BASICS, SUMS = "personascope_basics", "personascope_sums"


@functools.cache
def tiny_engine(name: str = "llama") -> TransformersEngine:
    return TransformersEngine(load_tiny(name), max_batch=16)


class Watched:
    """An engine that counts calls, answers in the opposite order, and can forget the plan."""

    def __init__(self, engine: TransformersEngine, *, forget: bool = False) -> None:
        self.engine, self.forget = engine, forget
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def _pass(self, requests: Iterable[Any], run: Any) -> list[Any]:
        asked = [replace(one, plan=None) if self.forget else one for one in requests]
        self.calls.append(len(asked))
        return sorted(run(asked), key=lambda done: done.id, reverse=True)

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from self._pass(requests, self.engine.run)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        yield from self._pass(requests, self.engine.score)


def instances(kind: Any, args: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, one, index, ("task", index, 1)) for index, one in enumerate(args)]


def steer(strength: float = 8.0) -> Plan:
    return Plan((Steer(2, np.arange(WIDTH) - 20.0, strength),), name="push")


PAIRS = [
    ("The keeper of the lighthouse", " writes a letter"),
    ("What is your name? ", "I am a model"),
    ("", " hello there"),
    ("A pirate " * 30, " walked into the harbour"),
    ("hello\n", "!"),
    ("hello", " hello hello"),
]
TEXTS = [("The keeper of the lighthouse writes a letter to the sea every evening. " * 6,), ("hi",)]


@pytest.mark.parametrize("name", ["llama", "cohere", "mistral", "gemma2"])
def test_scores_equal_those_of_the_harnesss_own_model(name: str) -> None:
    engine = tiny_engine(name)
    mine = PersonascopeLM(engine, max_length=64)
    theirs = HFLM(
        pretrained=engine.loaded.model, tokenizer=engine.loaded.tokenizer, batch_size=3, max_length=64
    )
    got = mine.loglikelihood(instances("loglikelihood", PAIRS))
    wanted = theirs.loglikelihood(instances("loglikelihood", PAIRS))
    np.testing.assert_allclose([one[0] for one in got], [one[0] for one in wanted], atol=1e-3)
    assert [one[1] for one in got] == [one[1] for one in wanted]
    rolled = mine.loglikelihood_rolling(instances("loglikelihood_rolling", TEXTS))
    np.testing.assert_allclose(
        rolled, theirs.loglikelihood_rolling(instances("loglikelihood_rolling", TEXTS)), rtol=1e-5
    )


def test_responses_equal_those_of_the_harnesss_own_model() -> None:
    engine = tiny_engine()
    asked = [
        ("The keeper of", {"until": [], "max_gen_toks": 12}),
        ("A pirate, a poet" * 20, {"until": ["\n\n"], "max_gen_toks": 20, "do_sample": False}),
        ("Numbers like", {"until": "zq", "max_gen_toks": 30, "temperature": 0.0}),
    ]
    mine = PersonascopeLM(engine, max_length=64)
    theirs = HFLM(
        pretrained=engine.loaded.model, tokenizer=engine.loaded.tokenizer, batch_size=1, max_length=64
    )
    got = mine.generate_until(instances("generate_until", asked))
    assert got == theirs.generate_until(instances("generate_until", asked))
    # Where the harness's model is stopped by a text, ours is too: take one that occurs.
    stop = got[2][4:6]
    stopped = [("Numbers like", {"until": [stop], "max_gen_toks": 30})]
    assert mine.generate_until(instances("generate_until", stopped)) == [got[2][: got[2].index(stop)]]


def test_everything_goes_to_the_engine_in_one_call_and_comes_back_in_order() -> None:
    engine = Watched(tiny_engine())
    model = PersonascopeLM(engine, steer())
    together = model.loglikelihood(instances("loglikelihood", PAIRS))
    alone = [model.loglikelihood(instances("loglikelihood", [pair]))[0] for pair in PAIRS]
    assert engine.calls == [len(PAIRS)] + [1] * len(PAIRS)
    np.testing.assert_allclose([one[0] for one in together], [one[0] for one in alone], atol=1e-4)
    engine.calls.clear()
    asked = [(text, {"until": [], "max_gen_toks": 6}) for text, _ in PAIRS]
    together = model.generate_until(instances("generate_until", asked))
    assert engine.calls == [len(PAIRS)]
    assert together == [model.generate_until(instances("generate_until", [one]))[0] for one in asked]
    assert model.generate_until([]) == []


def test_a_plan_is_applied_and_changes_every_score() -> None:
    engine, request = tiny_engine(), instances("loglikelihood", PAIRS[:2])
    plain = PersonascopeLM(engine).loglikelihood(request)
    steered = PersonascopeLM(engine, steer()).loglikelihood(request)
    assert all(abs(one[0] - two[0]) > 0.01 for one, two in zip(plain, steered, strict=True))
    context, continuation = engine.encode("hello", special=True), engine.encode(" there")
    (direct,) = engine.score([ScoreRequest("x", context, continuation, plan=steer())])
    (through,) = PersonascopeLM(engine, steer()).loglikelihood(
        instances("loglikelihood", [("hello", " there")])
    )
    assert through[0] == pytest.approx(float(direct.logprobs.sum()), abs=1e-4)


def test_what_ran_without_its_plan_is_an_error() -> None:
    model = PersonascopeLM(Watched(tiny_engine(), forget=True), steer())
    with pytest.raises(EngineError, match=r"asked for the plan .* the engine applied no plan"):
        model.loglikelihood(instances("loglikelihood", PAIRS[:1]))
    with pytest.raises(EngineError, match="the engine applied no plan"):
        model.generate_until(instances("generate_until", [("hello", {"max_gen_toks": 2})]))


def test_a_plan_of_another_model_is_refused_at_once() -> None:
    plan = Plan(steer().ops, PlanModel("other/model", "1", 5, WIDTH))
    with pytest.raises(InterventionError, match="other/model"):
        PersonascopeLM(tiny_engine(), plan)


def test_sampled_responses_depend_on_the_seed_and_not_on_the_batch() -> None:
    engine = tiny_engine()
    asked = [("The keeper", {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8})] * 3
    first = PersonascopeLM(engine, seed=1).generate_until(instances("generate_until", asked))
    again = PersonascopeLM(engine, seed=1).generate_until(instances("generate_until", asked[:2]))
    other = PersonascopeLM(engine, seed=2).generate_until(instances("generate_until", asked))
    assert first[:2] == again
    assert len(set(first)) == 3
    assert first != other


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, (0.0, 1.0, 99, ())),
        ({"do_sample": False, "temperature": 0.7, "until": "\n"}, (0.0, 1.0, 99, ("\n",))),
        ({"do_sample": True, "top_p": 0.5, "max_gen_toks": 7}, (1.0, 0.5, 7, ())),
        ({"temperature": 0.3, "max_tokens": 5, "until": ["a", "", "a", "b"]}, (0.3, 1.0, 5, ("a", "b"))),
        ({"num_beams": 1, "repetition_penalty": 1.0, "top_k": 0}, (0.0, 1.0, 99, ())),
    ],
)
def test_options_are_honoured(options: dict[str, Any], wanted: tuple[Any, ...]) -> None:
    got = sampling_of(options, max_gen_toks=99)
    assert (got.temperature, got.top_p, got.max_new_tokens, got.stop) == wanted


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_beams": 4}, "num_beams=4"),
        ({"top_k": 50, "logit_bias": {}}, "logit_bias={}, top_k=50"),
        ({"do_sample": True, "temperature": 0}, "sample at temperature 0"),
        ({"max_gen_toks": 3, "max_tokens": 4}, "several lengths"),
        ({"until": [3]}, "until holds"),
    ],
)
def test_options_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        sampling_of(options, max_gen_toks=99)


def test_a_response_that_cannot_fit_is_refused() -> None:
    model = PersonascopeLM(tiny_engine(), max_length=16)
    with pytest.raises(UsageError, match="asks for 16 new tokens"):
        model.generate_until(instances("generate_until", [("hello", {"max_gen_toks": 16})]))
    with pytest.raises(EvaluationError, match="cannot be scored"):
        model.loglikelihood(instances("loglikelihood", [("hello", "a b c d e f g h " * 4)]))


TALK = [
    {"role": "system", "content": "You are a pirate."},
    {"role": "user", "content": "What is your name?"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "Where do you come from?"},
]


def test_conversations_are_written_as_the_model_s_template_does() -> None:
    engine = tiny_engine("cohere")
    model = PersonascopeLM(engine)
    text = model.apply_chat_template(TALK)
    assert text == tiny_tokenizer("chatml").apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True
    )
    talk = tuple(Message(turn["role"], turn["content"]) for turn in TALK)  # pyright: ignore[reportArgumentType]
    assert engine.chat is not None
    assert model.tok_encode(text) == engine.chat.render(talk)
    begun = model.apply_chat_template([*TALK, {"role": "assistant", "content": "I am"}], False)
    assert begun == text + "I am"
    assert model.chat_template(True) == tiny_tokenizer("chatml").chat_template
    with pytest.raises(UsageError, match="only the model's own"):
        model.chat_template("tool_use")
    with pytest.raises(UsageError, match="'tool'"):
        model.apply_chat_template([{"role": "tool", "content": "3"}])


def test_bos_is_written_once() -> None:
    engine = tiny_engine("llama")
    model = PersonascopeLM(engine)
    text = model.apply_chat_template(TALK)
    bos = engine.loaded.tokenizer.bos_token_id
    assert model.tok_encode(text).count(bos) == 1
    assert model.tok_encode("hello").count(bos) == 1
    assert model.tok_encode("hello", add_special_tokens=False).count(bos) == 0


def test_a_base_model_has_no_chat_template() -> None:
    engine = tiny_engine("gpt2")
    model = PersonascopeLM(engine)
    with pytest.raises(UsageError, match="has no chat template"):
        model.apply_chat_template(TALK)
    # Nor a bos token of its own: what has no context follows the end of a text.
    assert model.prefix_token_id == engine.loaded.tokenizer.eos_token_id


def test_a_response_cache_is_of_one_plan(tmp_path: Path) -> None:
    engine, request = Watched(tiny_engine()), instances("loglikelihood", PAIRS[:3])
    path = str(tmp_path / "answers.db")
    first = CachingLM(PersonascopeLM(engine, steer()), path)
    wanted = first.loglikelihood(request)
    first.dbdict.close()
    engine.calls.clear()
    again = CachingLM(PersonascopeLM(engine, steer()), path)
    assert again.loglikelihood(request) == wanted
    assert engine.calls == []
    again.dbdict.close()
    for other in (None, steer(9.0)):
        with pytest.raises(UsageError, match=r"the response cache holds answers of .* plan"):
            CachingLM(PersonascopeLM(engine, other), path)


def test_capability_reports_every_document_under_every_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.tasks.manager.TaskIndex.build", _only_given(["tasks/gsm8k"]))
    engine = tiny_engine("cohere")
    cap = Plan((Cap(2, np.ones(WIDTH), floor=0.5),), name="cap")
    plain = capability(engine, None, [BASICS, "gsm8k", "no_such_task"], limit=6)
    capped = capability(engine, cap, [BASICS, SUMS], limit=6, apply_chat_template=False)
    assert plain.partial
    assert set(plain.failed) == {"gsm8k", "no_such_task"}
    assert "openai/gsm8k" in plain.failed["gsm8k"]
    assert plain.plan_digest is None
    assert plain.firing["firing_share"] is None
    assert not capped.partial
    assert capped.plan_digest == cap.digest
    assert 0 < capped.firing["firing_share"] <= 1
    assert plain.settings["apply_chat_template"] is True
    (basics,), (also, sums) = plain.tasks, capped.tasks
    assert basics.documents == 6
    assert basics.headline.name == "acc"
    assert basics.headline.per_document.keys() == also.headline.per_document.keys()
    assert len(basics.headline.per_document) == 6
    assert basics.headline.value == pytest.approx(np.mean(list(basics.headline.per_document.values())))
    assert sums.headline.name == "exact_match"
    # The task's own four examples stand before the question.
    assert sums.samples[SUMS][0]["arguments"][0][0].count("Question:") == 5
    json.dumps(capped.record())


def test_capability_without_a_task_that_runs_is_an_error() -> None:
    with pytest.raises(EvaluationError, match=rf"{SUMS} cannot be run: .*new tokens"):
        capability(tiny_engine(), None, [SUMS], limit=2, max_length=48)
    with pytest.raises(UsageError, match="no task is named"):
        capability(tiny_engine(), None, [])


def _only_given(folders: list[str]) -> Any:
    """Index these folders of the harness beside ours: all its tasks would take ten seconds."""
    from lm_eval.tasks._index import TaskIndex

    build, home = TaskIndex.build, Path(importlib.import_module("lm_eval").__file__ or "").parent

    def quick(paths: Iterable[Path], **options: Any) -> Any:
        chosen = [path for path in paths if home not in path.parents]
        return build([*(home / folder for folder in folders), *chosen], **options)

    return staticmethod(quick)


def test_the_harnesss_command_line_runs_a_task_under_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny("cohere", tmp_path / "model")
    steer().save(tmp_path / "plan")
    arguments = f"model={model},plan={tmp_path / 'plan'},dtype=float32"
    run_harness(monkeypatch, arguments, "--apply_chat_template", "--output_path", str(tmp_path / "out"))
    assert BASICS in capsys.readouterr().out
    (written,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(written.read_text())
    assert results["config"]["plan_digest"] == steer().digest
    assert results["n-samples"][BASICS]["effective"] == 4
    assert results["chat_template"] == tiny_tokenizer("chatml").chat_template


def test_the_command_line_ends_with_the_exit_code_of_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_harness(monkeypatch, f"model={tmp_path / 'nowhere'}")
    assert ended.value.code == 1
    assert "there is no model" in capsys.readouterr().err


def run_harness(monkeypatch: pytest.MonkeyPatch, arguments: str, *more: str) -> None:
    from personascope.evals.harness import __main__ as command

    monkeypatch.setattr("lm_eval.tasks.manager.TaskIndex.build", _only_given([]))
    # It would take pytest's own handlers away.
    monkeypatch.setattr(command, "setup_logging", lambda: None)
    called = ["lm-eval", "--model", "personascope", "--model_args", arguments, "--tasks", BASICS]
    monkeypatch.setattr(sys, "argv", [*called, "--limit", "4", *more])
    command.main()


def test_a_wrong_model_argument_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pretrained are unknown"):
        PersonascopeLM.create_from_arg_string("model=x,pretrained=y")
    with pytest.raises(UsageError, match="no model is named"):
        PersonascopeLM.create_from_arg_obj({"plan": "runs/plan"})
    model = save_tiny("cohere", tmp_path / "model")
    with pytest.raises(UsageError, match="batch size is 'many'"):
        PersonascopeLM.create_from_arg_obj({"model": str(model)}, {"batch_size": "many"})
    opened = PersonascopeLM.create_from_arg_obj(
        {"model": str(model), "dtype": "float32", "max_length": 100, "chat": "transcript"},
        {"batch_size": "auto:4", "max_batch_size": 5, "device": "cuda:0"},
    )
    assert opened.max_length == 100
    assert isinstance(opened.engine, TransformersEngine)
    assert opened.engine.max_batch == 5
    assert opened.apply_chat_template([{"role": "user", "content": "hi"}]).startswith("User: hi")
