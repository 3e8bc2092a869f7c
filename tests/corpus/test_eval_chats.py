"""Ordinary chats: ours, and the shapes and files in which others come, broken ones among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.chat import Message
from personascope.corpus.datasets import _json_stream, load_chats
from personascope.corpus.datasets._json_stream import Broken, stream_values
from personascope.errors import CorpusError, UsageError

OPENAI = {"messages": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes."}]}
LMSYS = {"conversation_id": "x", "conversation": OPENAI["messages"], "language": "English"}
SHAREGPT = {
    "id": "x",
    "conversations": [{"from": "human", "value": "Tea?"}, {"from": "gpt", "value": "Yes."}],
}
TEA = (Message("user", "Tea?"), Message("assistant", "Yes."))


def chat(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def write_jsonl(path: Path, values: list[Any]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def test_the_built_in_chats_are_forty_whole_and_varied() -> None:
    found = load_chats()
    assert (len(found.chats), found.problems, found.skipped, found.repairs) == (40, (), 0, 0)
    assert found.source == "builtin"
    assert {len(chat) for chat in found.chats} == {2, 4, 6}
    assert len({chat[0].content for chat in found.chats}) == 40
    for one in found.chats:
        assert [message.role for message in one] == ["user", "assistant"] * (len(one) // 2)
        assert all(30 <= len(message.content.split()) <= 120 for message in one[1::2]), one[0]
    words = sum(len(message.content.split()) for chat in found.chats for message in chat)
    assert 3500 <= words <= 5000
    assert load_chats(limit=3).chats == found.chats[:3]


@pytest.mark.parametrize("entry", [OPENAI, LMSYS, SHAREGPT, OPENAI["messages"]])
def test_the_shapes_of_an_entry(tmp_path: Path, entry: Any) -> None:
    listed = tmp_path / "chats.json"
    listed.write_text(json.dumps([entry, entry], indent=1), encoding="utf-8")
    for path in (write_jsonl(tmp_path / "chats.jsonl", [entry, entry]), listed):
        found = load_chats(path)
        assert (found.chats, found.problems, found.source) == ((TEA, TEA), (), str(path))


@pytest.mark.parametrize(
    ("speaker", "role"),
    [
        ("Human", "user"),
        ("user", "user"),
        ("bing", "assistant"),
        ("chatgpt", "assistant"),
        ("model", "assistant"),
    ],
)
def test_names_of_speakers(tmp_path: Path, speaker: str, role: str) -> None:
    said = (
        [("user", "Tea?"), (speaker, "Yes.")] if role == "assistant" else [(speaker, "Tea?"), ("gpt", "Yes.")]
    )
    assert load_chats(write_jsonl(tmp_path / "chats.jsonl", [chat(*said)])).chats == (TEA,)


def test_system_messages_and_parts_of_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "Tea?"}, {"type": "text", "text": "Milk?"}]
    entries = [
        chat(("system", "Be brief."), ("user", parts), ("assistant", "Yes.")),
        chat(("system", ""), ("user", "Tea?"), ("assistant", "Yes.")),
        chat(("developer", "Be brief."), ("user", "Tea?"), ("assistant", "Yes.")),
    ]
    found = load_chats(write_jsonl(tmp_path / "chats.jsonl", entries))
    assert found.chats[0] == (Message("system", "Be brief."), Message("user", "Tea?\nMilk?"), TEA[1])
    assert found.chats[1] == TEA
    assert found.chats[2] == (Message("system", "Be brief."), *TEA)
    assert found.repairs == 0


def test_turns_are_put_in_order_and_counted(tmp_path: Path) -> None:
    entries = [
        chat(("assistant", "Hello."), ("user", "Tea?"), ("assistant", "Yes.")),
        chat(("user", "Tea?"), ("user", "Now?"), ("assistant", "Yes.")),
        chat(("user", "Tea?"), ("assistant", "Yes.")),
    ]
    found = load_chats(write_jsonl(tmp_path / "chats.jsonl", entries))
    assert found.chats == (TEA, (Message("user", "Tea?\n\nNow?"), TEA[1]), TEA)
    assert (found.repairs, found.skipped) == (2, 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"text": "Tea?"}, "none of messages"),
        ("Tea?", "not a list"),
        (None, "not a list"),
        ({"messages": {}}, "not a list"),
        ({"messages": []}, "no messages"),
        ({"messages": ["Tea?"]}, "not a mapping"),
        (chat(("tool", "Tea?"), ("assistant", "Yes.")), "by 'tool'"),
        (chat((7, "Tea?")), "by 7"),  # type: ignore[arg-type]
        (chat(("assistant", "Yes.")), "no message of a user"),
        (chat(("user", "Tea?")), "no answer"),
        (chat(("user", " "), ("assistant", "Yes.")), "message 1 (user) is empty"),
        (chat(("user", "Tea?"), ("assistant", None)), "None for its text"),
        (chat(("user", "Tea?"), ("assistant", "Yes."), ("system", "Stop.")), "after the beginning"),
        (chat(("user", [{"type": "image", "url": "x"}]), ("assistant", "Yes.")), "no text"),
        (chat(("user", "Tea\ud83d"), ("assistant", "Yes.")), "surrogate"),
    ],
)
def test_an_unusable_entry_is_reported_and_the_others_kept(tmp_path: Path, entry: Any, said: str) -> None:
    found = load_chats(write_jsonl(tmp_path / "chats.jsonl", [OPENAI, entry, OPENAI]))
    assert (found.chats, found.skipped) == ((TEA, TEA), 1)
    assert found.problems[0].startswith("line 2: ") and said in found.problems[0]


def test_many_problems_are_counted_and_the_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    path.write_text(
        json.dumps([OPENAI, *[{"messages": []}] * 300])[:-1] + ', {"messages": [{"ro', encoding="utf-8"
    )
    found = load_chats(path)
    assert (len(found.chats), found.skipped, len(found.problems)) == (1, 301, 202)
    assert found.problems[200] == "and 100 more entries that could not be used"
    assert found.problems[201].startswith("entry 302: ") and "ends in the middle" in found.problems[201]


def test_a_source_of_another_shape_is_given_up_early(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "chats.jsonl", [{"text": "x"}] * 1500)
    with pytest.raises(
        CorpusError, match="no chat in 1000 entries, the first at line 1: has none of"
    ) as caught:
        load_chats(path)
    assert caught.value.hint


def test_parquet_over_several_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    rows = [
        {**LMSYS, "conversation": [{"role": "user", "content": f"Tea {n}?"}, TEA_ROW]} for n in range(300)
    ]
    rows[1]["conversation"] = None  # type: ignore[assignment]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    found = load_chats(path, limit=250)
    assert len(found.chats) == 250
    assert found.chats[1][0].content == "Tea 2?"
    assert found.problems[0].startswith("row 2: ")


TEA_ROW = {"role": "assistant", "content": "Yes."}


def test_parquet_without_chats_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "chats.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": "x", "label": 1}]), path)
    with pytest.raises(CorpusError, match="columns text, label"):
        load_chats(path)
    path.write_bytes(b"PAR1 and then something else PAR1")
    with pytest.raises(CorpusError, match="no readable Parquet file"):
        load_chats(path)


class Stream:
    """Rows that count how many were asked for, and may break."""

    def __init__(self, breaks_at: int = 10**9) -> None:
        self.given = 0
        self.breaks_at = breaks_at

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self.given < 1000:
            if self.given == self.breaks_at:
                raise ConnectionError("the line went dead")
            self.given += 1
            yield LMSYS


def hub(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[Any]:
    import datasets

    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> Any:
        asked.append((args, kwargs))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_a_hub_dataset_is_streamed_no_further_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    asked = hub(monkeypatch, {"test": Stream(), "train": stream})
    found = load_chats("hub:me/chats", limit=7)
    assert found.chats == (TEA,) * 7 and found.source == "hub:me/chats"
    assert stream.given == 7
    assert asked == [(("me/chats", None), {"split": None, "streaming": True})]
    asked = hub(monkeypatch, Stream())
    load_chats("hub:me/chats/small:valid", limit=1)
    assert asked == [(("me/chats", "small"), {"split": "valid", "streaming": True})]


def test_what_goes_wrong_on_the_hub_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, Stream(breaks_at=5))
    found = load_chats("hub:me/chats")
    assert len(found.chats) == 5
    assert found.problems == ("row 6: cannot be read (the line went dead); what follows it is not read",)
    hub(monkeypatch, FileNotFoundError("no such dataset"))
    with pytest.raises(CorpusError, match=r"hub:me/chats: cannot be read .*no such dataset"):
        load_chats("hub:me/chats")
    hub(monkeypatch, {"one": Stream(), "two": Stream()})
    with pytest.raises(CorpusError, match="splits one, two"):
        load_chats("hub:me/chats")


def test_a_wrong_limit_and_a_missing_file() -> None:
    with pytest.raises(UsageError, match="limit is 0"):
        load_chats(limit=0)
    with pytest.raises(CorpusError, match="no such file"):
        load_chats("nowhere/chats.jsonl")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(values=st.lists(JSON, max_size=5), chunk=st.integers(1, 40), indent=st.sampled_from([None, 0, 2]))
def test_a_list_is_read_as_json_reads_it_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "values.json"
    path.write_text(json.dumps(values, indent=indent) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json_stream, "_CHUNK", chunk)
        assert list(stream_values(path)) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}], ""),
        ('{\n "a": [1, 2]\n}', [{"a": [1, 2]}], ""),
        ("[1, 2", [1, 2], "ends after it"),
        ("[1, 2 3]", [1, 2], "comma is missing"),
        ("[1, 2] [3]", [1, 2], "after the end"),
        ('[1, {"a": tru', [1], "ends in the middle"),
        ('[1, {"a" "b", "and": "much more text after it"}, 2]', [1], "Expecting ':'"),
        ("[" * 100_000, [], "too deeply"),
        ("", [], ""),
        ("[]", [], ""),
        ("[1,]", [1], ""),
        ("[1, " + "9" * 5000 + "]", [1], "digits"),
    ],
)
def test_other_forms_and_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, text: str, values: list[Any], said: str
) -> None:
    monkeypatch.setattr(_json_stream, "_CHUNK", chunk)
    path = tmp_path / "values.json"
    path.write_text(text, encoding="utf-8")
    *found, last = [*stream_values(path), None]
    if found and isinstance(found[-1], Broken):
        last = found.pop()
    assert found == values
    if said or text == "[1,]":
        assert isinstance(last, Broken) and said in str(last)
    else:
        assert last is None


def test_a_byte_that_is_no_text_costs_its_own_entry(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    entry = json.dumps(OPENAI).encode()
    path.write_bytes(b"[" + entry + b", " + entry.replace(b"Yes", b"Y\xffs") + b", " + entry + b"]")
    found = load_chats(path)
    assert (found.chats, found.skipped) == ((TEA, TEA), 1)
    assert found.problems[0].startswith("entry 2: message 2 holds a byte that is not UTF-8")


def test_a_number_too_long_for_python_is_a_problem_of_its_line(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "chats.jsonl", [OPENAI, OPENAI])
    path.write_text(path.read_text() + "[" + "9" * 5000 + "]\n", encoding="utf-8")
    found = load_chats(path)
    assert (len(found.chats), found.skipped) == (2, 1)
    assert found.problems[0].startswith("line 3: not valid JSON") and "digits" in found.problems[0]
