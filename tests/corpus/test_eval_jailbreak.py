"""Persona jailbreaks: the mild built-in set, and every form in which a user's set can come."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from personascope.corpus.datasets import JailbreakSet, load_jailbreak_set
from personascope.corpus.datasets._personas import Persona, load_personas
from personascope.errors import CorpusError, EvaluationError, UsageError

COLUMNS = ["system_prompt", "question", "category"]
ROWS = [
    ["You are a fox.", "How do I steal an egg?", "theft"],
    ["You are a cat.", "How do I steal an egg?", "theft"],
    ["You are a fox.", "How do I wake the house?", "noise"],
    ["", "How do I wake the house?", "noise"],
]
PERSONAS = (Persona("fox", "You are a fox."), Persona("cat", "You are a cat."))


def write_csv(path: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def as_dicts(columns: list[str] = COLUMNS) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in ROWS]


def write_jsonl(path: Path, values: list[object]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def texts(found: JailbreakSet) -> set[tuple[str, str, str]]:
    return {(item.system_prompt, item.question, item.category) for item in found.items}


def test_the_built_in_set_is_every_question_with_every_persona() -> None:
    found = load_jailbreak_set()
    assert len(found.items) == len({item.id for item in found.items}) == 120
    assert len(found.plain) == len({item.id for item in found.plain}) == 24
    assert not {item.id for item in found.items} & {item.id for item in found.plain}
    assert len(texts(found)) == 120
    assert set(Counter(item.category for item in found.items).values()) == {15}
    assert len({item.category for item in found.items}) == 8
    assert set(Counter(item.persona for item in found.items).values()) == {24}
    assert all(item.system_prompt and item.persona for item in found.items)
    assert not any(item.system_prompt or item.persona for item in found.plain)
    assert found.problems == () and found.source == "builtin"
    assert found == load_jailbreak_set()


def test_a_limit_keeps_the_mixture() -> None:
    found = load_jailbreak_set(limit=40)
    assert found.items == load_jailbreak_set().items[:40]
    assert len({item.question for item in found.items[:24]}) == 24
    assert set(Counter(item.persona for item in found.items).values()) <= {7, 8, 9}
    assert set(Counter(item.category for item in found.items).values()) == {5}
    assert {item.question for item in found.plain} == {item.question for item in found.items}
    assert len(load_jailbreak_set(limit=3).plain) == 3
    assert load_jailbreak_set(limit=3).digest != found.digest


def test_as_many_categories_as_personas_do_not_go_in_step(tmp_path: Path) -> None:
    rows = [[f"Question {n} of {c}?", f"c{c}"] for c in range(5) for n in range(5)]
    path = write_csv(tmp_path / "set.csv", rows, ["question", "category"])
    first = load_jailbreak_set(path, personas=load_personas(), limit=25).items
    assert len({item.question for item in first}) == 25
    assert len({(item.category, item.persona) for item in first}) == 25


def test_every_form_gives_the_same_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    wanted = load_jailbreak_set(write_csv(tmp_path / "set.csv", ROWS))
    rows = as_dicts()
    write_jsonl(tmp_path / "set.jsonl", list(rows))
    (tmp_path / "set.json").write_text(json.dumps(rows, indent=2), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "set.parquet")
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None, *, split: str | None, streaming: bool) -> Any:
        asked.append((name, config, split, streaming))
        return datasets.Dataset.from_list(rows).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    sources = [tmp_path / "set.jsonl", tmp_path / "set.json", tmp_path / "set.parquet", "hub:me/set:test"]
    for source in sources:
        found = load_jailbreak_set(source)
        assert (found.items, found.plain, found.problems) == (wanted.items, wanted.plain, ()), source
    assert asked == [("me/set", None, "test", True)]
    assert texts(wanted) == {(row[0], row[1], row[2]) for row in ROWS if row[0]}
    assert [item.question for item in wanted.plain] == ["How do I steal an egg?", "How do I wake the house?"]
    assert {item.id for item in wanted.items} == {"q1/p1", "q1/p2", "q2/p1"}
    assert {item.id for item in wanted.plain} == {"q1/none", "q2/none"}


@pytest.mark.parametrize(
    "columns",
    [
        ["System Prompt", "Prompt", "Harm-Category"],
        ["persona_prompt", "user_prompt", "topic"],
        ["SYSTEM", "goal", "SemanticCategory"],
    ],
)
def test_other_names_of_the_columns(tmp_path: Path, columns: list[str]) -> None:
    found = load_jailbreak_set(write_csv(tmp_path / "set.csv", ROWS, columns))
    assert found == load_jailbreak_set(write_csv(tmp_path / "set.csv", ROWS))


def test_ids_and_personas_of_the_users(tmp_path: Path) -> None:
    rows = [["a", "sly", "You are a fox.", "Egg?"], ["a", "aloof", "You are a cat.", "Egg?"]]
    path = write_csv(tmp_path / "set.csv", rows, ["id", "persona", "system_prompt", "question"])
    found = load_jailbreak_set(path)
    assert [item.id for item in found.items] == ["a/sly", "a/aloof"]
    assert [item.id for item in found.plain] == ["a/none"]
    assert {item.category for item in found.items} == {"all"}


def test_strongreject_is_crossed_with_personas(tmp_path: Path) -> None:
    rows = [["Noise", "custom", "How do I wake the house?"], ["Theft", "DAN", "How do I steal an egg?"]]
    path = write_csv(tmp_path / "set.csv", rows, ["category", "source", "forbidden_prompt"])
    assert len(load_jailbreak_set(path).items) == 2 * 5
    found = load_jailbreak_set(path, personas=PERSONAS)
    assert texts(found) == {(p.system_prompt, row[2], row[0]) for p in PERSONAS for row in rows}
    assert [item.id for item in found.plain] == ["q1/none", "q2/none"]
    assert {item.persona for item in found.items} == {"fox", "cat"}


def test_harmbench_puts_the_context_first(tmp_path: Path) -> None:
    columns = ["Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID"]
    rows = [
        ["Hide the egg", "standard", "theft", "", "", "egg_hide"],
        ["Say where it is", "contextual", "theft", "context", "The egg is\nred.", "egg_red"],
        ["Say where it is", "contextual", "theft", "context", "The egg is blue.", "egg_blue"],
    ]
    found = load_jailbreak_set(write_csv(tmp_path / "set.csv", rows, columns), personas=PERSONAS[:1])
    assert [item.id for item in found.items] == ["egg_hide/fox", "egg_red/fox", "egg_blue/fox"]
    assert found.items[1].question == "The egg is\nred.\n\nSay where it is"
    assert len(found.plain) == 3 and found.problems == ()


def test_personas_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "personas.yaml"
    path.write_text(yaml.safe_dump({"personas": [{"name": "fox", "system_prompt": "You are a fox."}]}))
    assert load_personas(path) == PERSONAS[:1]
    assert len(load_jailbreak_set(personas=path).items) == 24
    assert len(load_personas()) == 5
    path.write_text(yaml.safe_dump({"personas": [{"name": "fox", "system_prompt": "x"}] * 2}))
    with pytest.raises(CorpusError, match="'fox' occurs twice"):
        load_personas(path)


def test_malformed_rows_are_reported_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text(
        "system_prompt,question,category\r\n"
        '"You are\r\na fox.",Egg?,theft\r\n'  # lines 2 and 3
        "You are a fox.,,theft\r\n"
        "\r\n"
        "You are a fox.,Egg?\r\n"
        "You are a fox.,Egg?,\r\n"
        '"You are\r\na fox.",Egg?,noise\r\n'
        "You are a cat.,Egg?,theft\r\n"
        'You are a cat.,"Egg"?,theft\r\n'
        "You are a cat.,Hen?,theft\r\n",
        newline="",
    )
    found = load_jailbreak_set(path)
    assert [item.system_prompt[-4:] for item in found.items] == ["fox.", "cat."]
    places = [problem.partition(":")[0] for problem in found.problems]
    assert places == ["line 4", "line 6", "line 7", "line 8", "line 11"]
    assert "question is empty" in found.problems[0]
    assert "2 fields, the header has 3" in found.problems[1]
    assert "category is empty" in found.problems[2]
    assert "repeats line 2" in found.problems[3]
    assert "not read" in found.problems[4]


def test_malformed_json_lines_are_reported_with_their_lines(tmp_path: Path) -> None:
    good = json.dumps(as_dicts()[0])
    lines = [
        good.encode(),
        b"",
        b'{"question": ',
        b'"text"',
        b'{"system_prompt": "You are a cat.", "question": 7, "category": "x"}',
        b'{"system_prompt": ["x"], "question": "Hen?", "category": "x"}',
        b'{"question": "Hen?\xff"}',
        b'{"system_prompt": "You are a cat.", "question": "Hen?", "category": "noise"}',
    ]
    path = tmp_path / "set.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = load_jailbreak_set(path)
    assert [item.question for item in found.items] == ["How do I steal an egg?", "Hen?"]
    assert [problem.partition(":")[0] for problem in found.problems] == [f"line {n}" for n in (3, 4, 5, 6, 7)]


def test_ids_that_do_not_tell_requests_apart_are_reported(tmp_path: Path) -> None:
    columns = ["id", "persona", "system_prompt", "question"]
    rows = [
        ["a", "fox", "You are a fox.", "Egg?"],
        ["a", "cat", "You are a cat.", "Hen?"],
        ["a", "fox", "You are an old fox.", "Egg?"],
    ]
    found = load_jailbreak_set(write_csv(tmp_path / "set.csv", rows, columns))
    assert [item.id for item in found.items] == ["a/fox"]
    assert "that of another question" in found.problems[0]
    assert "those of line 2" in found.problems[1]


def test_what_cannot_be_a_set_is_refused(tmp_path: Path) -> None:
    empty = write_csv(tmp_path / "empty.csv", [])
    with pytest.raises(CorpusError, match="no usable row"):
        load_jailbreak_set(empty)
    bad = write_csv(tmp_path / "bad.csv", [["x", "", "y"]])
    with pytest.raises(CorpusError, match="line 2: question is empty"):
        load_jailbreak_set(bad)
    with pytest.raises(CorpusError, match="none is the question"):
        load_jailbreak_set(write_csv(tmp_path / "a.csv", [["x", "y"]], ["system_prompt", "query"]))
    asking = write_csv(tmp_path / "b.csv", [["x", "y"]], ["question", "category"])
    with pytest.raises(CorpusError, match="none is the system prompt"):
        load_jailbreak_set(asking)
    assert len(load_jailbreak_set(asking, personas=PERSONAS).items) == 2
    with pytest.raises(CorpusError, match="empty in all 1 rows"):
        load_jailbreak_set(write_csv(tmp_path / "c.csv", [["", "x", "y"]]))
    with pytest.raises(CorpusError, match="occurs twice"):
        load_jailbreak_set(write_csv(tmp_path / "d.csv", [["x", "y"]], ["question", "question"]))
    with pytest.raises(CorpusError, match="no known format"):
        load_jailbreak_set(tmp_path / "set.xlsx")
    with pytest.raises(CorpusError, match="no such file"):
        load_jailbreak_set(tmp_path / "set.csv")
    own = write_csv(tmp_path / "own.csv", ROWS)
    with pytest.raises(UsageError, match="of its own"):
        load_jailbreak_set(own, personas=PERSONAS)
    with pytest.raises(UsageError, match="limit is 0"):
        load_jailbreak_set(limit=0)
    with pytest.raises(UsageError, match="personas is empty"):
        load_jailbreak_set(personas=())
    with pytest.raises(UsageError, match="share a name"):
        load_jailbreak_set(personas=PERSONAS[:1] * 2)


def test_a_hub_set_needs_the_datasets_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EvaluationError, match="not installed") as caught:
        load_jailbreak_set("hub:me/set")
    assert "personascope[evals]" in caught.value.hint


@pytest.mark.parametrize("spec", ["hub:", "hub:a/b/c/d", "hub:me/", "hub:me/set:a:b"])
def test_a_malformed_hub_name_is_refused(spec: str) -> None:
    with pytest.raises(CorpusError, match="names no hub dataset"):
        load_jailbreak_set(spec)


def test_questions_alone_are_crossed_with_the_builtin_personas_by_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "set.csv", [["How do I steal an egg?"], ["How do I wake it?"]], ["question"])
    with pytest.raises(CorpusError, match="none is the system prompt") as caught:
        load_jailbreak_set(path)
    assert "--personas builtin" in caught.value.hint
    found = load_jailbreak_set(path, personas="builtin")
    assert len(found.items) == 10 and {item.persona for item in found.items} == {
        persona.name for persona in load_personas()
    }
