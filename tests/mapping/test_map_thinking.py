"""Maps of models that think, end to end: what is pooled, judged, counted, and kept over days."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import fakes
import numpy as np
import pytest

from chat.reply_templates import SHAPES
from helpers.scripted import load_family, script_replies
from personascope.chat import ChatOptions
from personascope.engines import Request, TransformersEngine
from personascope.judge import JudgeItem, JudgeStats, Verdict
from personascope.mapping import Profile, run_map
from personascope.mapping._map import MapResult
from personascope.space import PersonaMap
from personascope.store import RunFolder

PROFILE = Profile("small", None, 2, 4, 6, 24, min_fully=2, min_somewhat=2, keep="all", role_information=False)
WORDS = (
    *("keeper", "lighthouse", "letter", "sea", "evening", "pirate"),
    *("poet", "planner", "harbour", "dawn", "accountant", "model"),
)
FORMS: dict[str, tuple[str, str]] = {
    "qwen3": ("<think>\nTHOUGHT\n</think>\n\n", "ANSWER<|im_end|>"),
    "harmony": (
        "<|channel|>analysis<|message|>THOUGHT<|end|><|start|>assistant",
        "<|channel|>final<|message|>ANSWER<|return|>",
    ),
}
ENDS = {"qwen3": (), "harmony": ("<|return|>", "<|endoftext|>", "<|call|>")}


def said(request: Request, what: str) -> str:
    """Return words that hang on the role and the question of a request."""
    role, _, question, sample = request.id.split("/")
    place = fakes.number(f"{what} {role}")
    other = fakes.number(f"{what} {question} {sample}")
    return f"{WORDS[place % 12]} {WORDS[place // 12 % 12]} {WORDS[other % 12]}"


class Reader:
    """A judge that keeps what it is shown."""

    name = "reader"

    def __init__(self) -> None:
        self.stats = JudgeStats()
        self.seen: list[str] = []

    async def score(self, item: JudgeItem) -> Verdict:
        self.seen.append(item.response)
        return Verdict(item.id, 3, "", self.name)

    async def aclose(self) -> None:
        pass


def engine_of(name: str, *, thinking: bool | None = None, today: date | None = None) -> TransformersEngine:
    loaded = load_family(SHAPES[name].family, eos=ENDS[name])
    return TransformersEngine(loaded).with_chat(ChatOptions(thinking, today=today))


def script(
    patch: pytest.MonkeyPatch,
    engine: TransformersEngine,
    name: str,
    *,
    thinks: Callable[[Request], str | bool],
) -> None:
    tokenizer = engine.loaded.tokenizer

    def reply(request: Request) -> list[int]:
        before, after = FORMS[name]
        how = thinks(request)
        text = after.replace("ANSWER", said(request, "answer"))
        if how == "for ever":
            text = before.split("THOUGHT")[0] + said(request, "thought") + " and so on" * 40
        elif how:
            text = before.replace("THOUGHT", said(request, "thought")) + text
        return tokenizer(text, add_special_tokens=False).input_ids

    script_replies(patch, reply)


def make(engine: TransformersEngine, out: Path, judge: Reader | None, **changes: object) -> MapResult:
    return run_map(
        engine,
        fakes.corpus(),
        replace(PROFILE, **changes),  # pyright: ignore[reportArgumentType]
        out=out,
        judge=judge,
        model_name="Tiny",
        progress=False,
        n_boot=5,
        vectors="rubric",
    )


def rows(out: Path) -> dict[str, dict]:
    folder = RunFolder.read(out)
    return {row["id"]: row for index in folder.units for row in folder.rows(index).to_pylist()}


@pytest.mark.parametrize("name", FORMS)
def test_an_axis_of_the_answer_and_one_of_the_thinking(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on = None if name == "harmony" else True
    engine = engine_of(name, thinking=on)
    script(monkeypatch, engine, name, thinks=lambda _: True)
    made: dict[str, PersonaMap] = {}
    judges = {part: Reader() for part in ("answer", "thinking", "response")}
    for part, judge in judges.items():
        result = make(engine, tmp_path / part, judge, tokens=part)
        assert result.space is not None
        assert not result.collected.partial
        made[part] = PersonaMap.open(tmp_path / part / "map")
    # The same replies, judged by their answers whatever is pooled.
    every = {part: rows(tmp_path / part) for part in judges}
    for id, row in every["answer"].items():
        assert (row["text"], row["reasoning"]) == (
            every["thinking"][id]["text"],
            every["thinking"][id]["reasoning"],
        )
        assert row["text"] in judges["answer"].seen or row["role"] == "default"
        assert set(row["text"].split()) | set(row["reasoning"].split()) <= set(WORDS)
        assert (
            row["token_count"] + every["thinking"][id]["token_count"] < every["response"][id]["token_count"]
        )
    assert sorted(judges["answer"].seen) == sorted(judges["thinking"].seen)
    axes = {part: one.unit_axis(2) for part, one in made.items()}
    assert abs(float(axes["answer"] @ axes["thinking"])) < 0.9
    assert made["answer"].model.tokens == "answer"
    assert made["thinking"].model.tokens == "thinking"
    assert "tokens" not in json.loads((tmp_path / "answer" / "map" / "map.json").read_text())["model"]
    options = {} if on is None else {"thinking": "on"}
    assert made["answer"].model.chat_options == options


def test_thinking_is_off_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of("qwen3")
    script(monkeypatch, engine, "qwen3", thinks=lambda _: False)
    result = make(engine, tmp_path / "off", Reader())
    assert result.space is not None
    manifest = json.loads((tmp_path / "off" / "manifest.json").read_text())
    assert "chat_options" not in manifest["identity"]["model"]
    assert "tokens" not in manifest["identity"]["profile"]
    assert "max_thinking_tokens" not in manifest["identity"]["sampling"]
    assert "chat_date" not in manifest["notes"]
    record = json.loads((tmp_path / "off" / "map" / "map.json").read_text())["model"]
    assert sorted(record) == ["chat_digest", "d_model", "dtype", "id", "n_layers", "revision"]
    folder = RunFolder.read(tmp_path / "off")
    assert "reasoning" not in folder.rows(0).schema.names


def test_replies_that_never_left_thinking_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of("qwen3", thinking=True)
    script(monkeypatch, engine, "qwen3", thinks=lambda r: "for ever" if r.id.endswith("q1/s0") else True)
    judge = Reader()
    result = make(engine, tmp_path / "run", judge, max_thinking_tokens=40)
    lost = [row for row in rows(tmp_path / "run").values() if row["status"] == "thinking"]
    assert result.collected.thinking == len(lost) > 3
    assert (result.collected.empty, result.collected.unanswered, result.collected.partial) == (0, 0, False)
    assert {(row["text"], row["token_count"], row["finish_reason"]) for row in lost} == {("", 0, "length")}
    assert "" not in judge.seen
    counts = json.loads((tmp_path / "run" / "map" / "map.json").read_text())["counts"]
    assert sum(row["empty"] for row in counts.values()) == len([row for row in lost if row["role"] in counts])


def test_a_resumed_map_writes_the_date_on_which_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, first = (engine_of("harmony", today=date(2026, 3, 1)) for _ in range(2))
    script(monkeypatch, whole, "harmony", thinks=lambda _: True)
    make(whole, tmp_path / "whole", Reader())
    assert (
        json.loads((tmp_path / "whole" / "manifest.json").read_text())["notes"]["chat_date"] == "2026-03-01"
    )

    class KilledError(Exception):
        pass

    commit = RunFolder.commit

    def once(folder: RunFolder, index: int, **more: object) -> object:
        if index:
            raise KilledError
        return commit(folder, index, **more)  # pyright: ignore

    design = {"max_new_tokens": 24}
    with monkeypatch.context() as patch:
        patch.setattr("personascope.mapping._plan.UNIT_ROLLOUTS", 24)
        patch.setattr(RunFolder, "commit", once)
        with pytest.raises(KilledError):
            make(first, tmp_path / "cut", Reader(), **design)
        patch.setattr(RunFolder, "commit", commit)
        later = engine_of("harmony", today=date(2026, 3, 9))
        assert later.info.chat_digest == first.info.chat_digest
        seen: set[str] = set()
        render = type(later._chat())._render_text

        def spy(chat, messages, **more):  # type: ignore[no-untyped-def]
            text = render(chat, messages, **more)
            seen.add(text.partition("Current date: ")[2][:10])
            return text

        patch.setattr(type(later._chat()), "_render_text", spy)
        result = make(later, tmp_path / "cut", Reader(), **design)
    assert seen == {"2026-03-01"}
    assert not result.collected.partial
    assert PersonaMap.open(tmp_path / "cut" / "map").model.chat_date == "2026-03-01"
    a, b = rows(tmp_path / "whole"), rows(tmp_path / "cut")
    assert {id: row["prompt_tokens"] for id, row in a.items()} == {
        id: row["prompt_tokens"] for id, row in b.items()
    }


def test_a_run_that_kept_no_date_goes_on_with_the_day_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    from personascope.runs import dated

    engine = engine_of("harmony", today=date(2026, 3, 9))
    script(monkeypatch, engine, "harmony", thinks=lambda _: True)
    make(engine, tmp_path / "run", Reader())
    path = tmp_path / "run" / "manifest.json"
    record = json.loads(path.read_text())
    del record["notes"]["chat_date"], record["checksum"]
    path.write_text(json.dumps(record))
    os.utime(path, (1_772_000_000, 1_772_000_000))
    assert dated(engine, tmp_path / "run").info.chat_date == "2026-02-25"
    assert dated(engine, tmp_path / "run", restart=True).info.chat_date == "2026-03-09"
    assert dated(engine, tmp_path / "none").info.chat_date == "2026-03-09"
    again = make(engine, tmp_path / "run", Reader())
    assert not again.collected.partial
    np.testing.assert_array_equal(again.norms, make(engine, tmp_path / "run", Reader()).norms)


def test_plans_and_monitors_say_which_date_their_map_was_made_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from personascope.directions import plan_model
    from personascope.dynamics.monitor._events import MonitorSource
    from personascope.interventions import Plan, Steer

    engine = engine_of("harmony", today=date(2026, 3, 1))
    script(monkeypatch, engine, "harmony", thinks=lambda _: True)
    make(engine, tmp_path / "run", Reader())
    made = PersonaMap.open(tmp_path / "run" / "map")
    plan = Plan((Steer(2, made.unit_axis(2), 1.0),), plan_model(made))
    plan.save(tmp_path / "plan")
    assert json.loads((tmp_path / "plan" / "plan.json").read_text())["model"]["chat_date"] == "2026-03-01"
    again = Plan.load(tmp_path / "plan")
    assert again.model is not None
    assert (again.model.chat_date, again.digest) == ("2026-03-01", plan.digest)
    source = MonitorSource.of(made)
    assert source.record["chat_date"] == "2026-03-01"
    # The date tells where they come from, and no models apart.
    assert again.model == replace(again.model, chat_date="2026-03-09")
    assert source == replace(source, chat_date="")
