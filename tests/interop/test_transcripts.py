"""Transcripts in the shapes and files in which they come, whole, repaired and broken."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.chat import Message
from personascope.errors import InteropError, UsageError
from personascope.interop import Transcript, TranscriptSource, Unreadable
from personascope.interop._entries import read_entries
from personascope.interop._transcripts import read_transcripts

USER, REPLY = {"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes, please."}
TALK = [USER, REPLY]
TEA = (Message("user", "Tea?"), Message("assistant", "Yes, please."))
SHAREGPT = {
    "id": "QW_0",
    "conversations": [{"from": "human", "value": "Tea?"}, {"from": "gpt", "value": "Yes, please."}],
}
# Section 7 of METHOD: model, turns, conversation, and some of the others.
RELEASED = {
    "model": "qwen-3-32b",
    "auditor_model": "some-auditor",
    "domain": "therapy",
    "persona_id": 3,
    "persona": "A nurse between two shifts.",
    "topic_id": 11,
    "topic": "Sleep",
    "turns": 2,
    "conversation": TALK,
    "steering_config": {"experiment_id": "layers_46:54-p0.25", "num_interventions": 8, "layers": [46, 47]},
}


def put(folder: Path, name: str, value: Any) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def read(path: Path | str, **more: Any) -> list[Transcript | Unreadable]:
    return list(read_transcripts(path, **more))


def only(value: Any, **more: Any) -> Transcript | Unreadable:
    (found,) = read_entries(value, **more)
    return found


def one(path: Path) -> Transcript:
    (found,) = read(path)
    assert isinstance(found, Transcript), found
    return found


@pytest.mark.parametrize(
    "entry",
    [TALK, {"messages": TALK}, {"conversation": TALK, "x": 1}, SHAREGPT, RELEASED, SHAREGPT["conversations"]],
)
@pytest.mark.parametrize("form", ["alone", "list", "lines"])
def test_every_shape_alone_in_a_list_and_in_lines(tmp_path: Path, entry: Any, form: str) -> None:
    if form == "alone":
        found = [one(put(tmp_path, "chat.json", entry))]
    elif form == "list":
        found = read(put(tmp_path, "chats.json", [entry] * 3))
    else:
        found = read(put(tmp_path, "chats.jsonl", "\n".join([json.dumps(entry)] * 3) + "\n\n"))
    assert [t.conversation for t in found] == [TEA] * (1 if form == "alone" else 3)  # type: ignore[union-attr]
    assert all(t.repairs == "" for t in found)  # type: ignore[union-attr]


def test_the_released_format_keeps_its_metadata(tmp_path: Path) -> None:
    found = one(put(tmp_path, "transcript_7.json", RELEASED))
    assert found.id == found.where == "transcript_7.json"
    assert found.metadata == {key: value for key, value in RELEASED.items() if key != "conversation"}
    assert found.metadata["steering_config"]["layers"] == [46, 47]


def test_ids_are_the_entries_own_or_their_numbers(tmp_path: Path) -> None:
    listed = put(tmp_path, "chats.json", [SHAREGPT, {"messages": TALK, "id": 7}, TALK])
    assert [t.id for t in read(listed)] == ["chats.json:QW_0", "chats.json:7", "chats.json:3"]  # type: ignore[union-attr]
    assert [t.where for t in read(listed)] == [f"chats.json: entry {n}" for n in (1, 2, 3)]
    lines = put(tmp_path, "chats.jsonl", f"\n{json.dumps(TALK)}\n{json.dumps({'messages': TALK, 'id': ''})}")
    assert [(t.id, t.where) for t in read(lines)] == [  # type: ignore[union-attr]
        ("chats.jsonl:2", "chats.jsonl: line 2"),
        ("chats.jsonl:3", "chats.jsonl: line 3"),
    ]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    put(tmp_path, "b/2.json", TALK)
    put(tmp_path, "b/10.json", RELEASED)
    put(tmp_path, "a.jsonl", "\n".join([json.dumps(SHAREGPT), "{", json.dumps(TALK)]))
    put(tmp_path, "notes.txt", "User: Tea?\nAssistant: Yes,\nplease.\n")
    put(tmp_path, ".hidden/x.json", TALK)
    put(tmp_path, "picture.png", "x")
    found = read(tmp_path)
    assert [getattr(t, "id", t.where) for t in found] == [
        *("a.jsonl:QW_0", "a.jsonl: line 2", "a.jsonl:3"),
        *("b/10.json", "b/2.json", "notes.txt", "picture.png"),
    ]
    assert "not valid JSON" in found[1].reason  # type: ignore[union-attr]
    assert "'.png' says no known format" in found[-1].reason  # type: ignore[union-attr]
    assert found[5].conversation[1].content == "Yes,\nplease."  # type: ignore[union-attr]
    assert len([t for t in read(tmp_path, limit=3) if isinstance(t, Transcript)]) == 3
    assert read(tmp_path, limit=3) == found[:4]


TOOLS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is"}, {"type": "text", "text": "3 + 4?"}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
    {"role": "tool", "tool_call_id": "c", "content": "7"},
    {"role": "assistant", "content": "It is 7.", "reasoning_content": "Let me see."},
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "And this?"}],
    },
    {"role": "assistant", "content": None, "refusal": "I cannot say."},
]


def test_what_is_no_turn_is_left_out_and_said(tmp_path: Path) -> None:
    found = one(put(tmp_path, "tools.json", TOOLS))
    assert [(m.role, m.content) for m in found.conversation] == [
        ("system", "Be brief."),
        ("user", "What is\n3 + 4?"),
        ("assistant", "It is 7."),
        ("user", "And this?"),
        ("assistant", "I cannot say."),
    ]
    assert found.repairs == (
        "1 tool message left out; the tool calls of 1 message left out; the reasoning of 1 message kept "
        "apart; 1 part that is no text left out"
    )


REASONED = [
    {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm, hm."},
    {"role": "assistant", "content": "Yes.", "reasoning": "Hm, hm.", "reasoning_content": "Hm, hm."},
    {"role": "assistant", "content": "Yes.", "thinking": "Hm, hm."},
    {"role": "assistant", "content": "<think>\nHm, hm.\n</think>\n\nYes."},
    {"role": "assistant", "content": "Hm, hm.\n</think>\n\nYes."},
    {"role": "assistant", "content": "<seed:think>Hm, hm.</seed:think>Yes."},
    {"role": "assistant", "content": "[THINK]Hm, hm.[/THINK]Yes."},
    {
        "role": "assistant",
        "content": "<|START_THINKING|>Hm, hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
    },
    {"role": "assistant", "content": "<think>Hm, hm.</think>\n<response>\nYes.\n</response>"},
    {
        "role": "assistant",
        "content": '<details type="reasoning" done="true">\n<summary>Thought for 2 s</summary>\n'
        "> Hm, hm.\n</details>\nYes.",
    },
    {
        "role": "assistant",
        "content": "<|channel|>analysis<|message|>Hm, hm.<|end|><|start|>assistant"
        "<|channel|>final<|message|>Yes.<|return|>",
    },
    {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm, hm."}, {"type": "text", "text": "Yes."}],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm, hm."}]},
            {"type": "text", "text": "Yes."},
        ],
    },
]


@pytest.mark.parametrize("reply", REASONED)
def test_reasoning_is_never_counted_as_the_reply(reply: dict, tmp_path: Path) -> None:
    found = one(put(tmp_path, "talk.json", [{"role": "user", "content": "Well?"}, reply]))
    assert found.conversation == (Message("user", "Well?"), Message("assistant", "Yes.", reasoning="Hm, hm."))
    assert found.repairs == "the reasoning of 1 message kept apart"


def test_a_tag_in_mid_text_or_of_a_user_is_text(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "<think>\nHm.\n</think>\n\nWell?"},
        {"role": "assistant", "content": "Write <think> and then </think> around it."},
    ]
    found = one(put(tmp_path, "talk.json", said))
    assert [(m.content, m.reasoning) for m in found.conversation] == [(m["content"], "") for m in said]
    assert found.repairs == ""


def test_a_reply_that_never_left_thinking_has_no_text(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Well?"}, {"role": "assistant", "content": "<think>\nHm, hm"}]
    found = one(put(tmp_path, "talk.json", said))
    assert found.conversation[1] == Message("assistant", "", reasoning="Hm, hm")
    assert found.repairs == "the reasoning of 1 message kept apart"


@pytest.mark.parametrize(
    ("said", "roles", "repairs"),
    [
        (
            [("assistant", "Hi."), ("user", "a"), ("assistant", "b")],
            "ua",
            "1 answer before the first question",
        ),
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "ua", "1 message joined"),
        (
            [("user", "a"), ("function_call", "f"), ("observation", "o"), ("assistant", "c")],
            "ua",
            "1 tool message",
        ),
        ([("user", "a"), ("assistant", ""), ("user", "b")], "uau", ""),
        ([("user", "a"), ("assistant", "b"), ("system", "c")], "uas", ""),
        ([("developer", " a "), ("human", " b")], "su", ""),
    ],
)
def test_turns_are_put_in_order(said: list[tuple[str, str]], roles: str, repairs: str) -> None:
    found = only([{"role": role, "content": text} for role, text in said], file="x")
    assert isinstance(found, Transcript)
    assert "".join(message.role[0] for message in found.conversation) == roles
    assert repairs in found.repairs and bool(found.repairs) == bool(repairs)


def test_texts_are_not_touched() -> None:
    found = only([{"role": "user", "content": "  a\n "}], file="x")
    assert isinstance(found, Transcript)
    assert found.conversation[0].content == "  a\n "


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"text": "Tea?"}, "no list of messages under"),
        ({"messages": {"role": "user"}}, "messages is {'role'"),
        ("Tea?", "no list of messages"),
        (None, "no list of messages"),
        ([], "no messages"),
        (["Tea?"], "message 0 is 'Tea?'"),
        ([{"role": "wizard", "content": "a"}], "by 'wizard'"),
        ([{"role": 7, "content": "a"}], "by 7"),
        ([{"role": "user"}], "message 0 is {'role': 'user'}"),
        ([{"role": "user", "content": 7}], "has 7 for its text"),
        ([{"role": "user", "content": [7]}], "the part 7"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "which is no text"),
        ([{"role": "user", "content": "a\ud83d"}], "surrogate"),
        ([{"role": "assistant", "content": "a"}], "no message of a user"),
    ],
)
def test_an_entry_that_is_no_conversation_is_reported_between_the_others(
    tmp_path: Path, entry: Any, said: str
) -> None:
    values = [TALK, entry, SHAREGPT]
    for name, text in (("c.json", json.dumps(values)), ("c.jsonl", "\n".join(map(json.dumps, values)))):
        before, found, after = read(put(tmp_path, name, text))
        assert isinstance(found, Unreadable) and said in found.reason, found
        assert found.where in ("c.json: entry 2", "c.jsonl: line 2")
        assert [t.conversation for t in (before, after)] == [TEA, TEA]  # type: ignore[union-attr]


def test_messages_as_entries_are_one_conversation(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps(message) for message in TALK)
    assert one(put(tmp_path, "log.jsonl", lines)).conversation == TEA
    (broken,) = read(put(tmp_path, "cut.jsonl", lines[:-3]))
    assert broken.where == "cut.jsonl: line 2"
    stray = read(
        put(tmp_path, "stray.jsonl", f"{json.dumps(USER)}\n{json.dumps(SHAREGPT)}\n{json.dumps(USER)}")
    )
    assert [type(t) for t in stray] == [Unreadable, Transcript, Unreadable]
    assert "a message by itself" in stray[0].reason and "a message by itself" in stray[2].reason  # type: ignore[union-attr]


def test_a_broken_tail_is_reported_and_what_stands_before_it_read(tmp_path: Path) -> None:
    *whole, last = read(put(tmp_path, "chats.json", json.dumps([SHAREGPT] * 3)[:-30]))
    assert [t.id for t in whole] == ["chats.json:QW_0"] * 2  # type: ignore[union-attr]
    assert isinstance(last, Unreadable)
    assert "ends in the middle" in last.reason and "what follows it is not read" in last.reason
    (lost,) = read(put(tmp_path, "chat.json", json.dumps(TALK)[:-10]))
    assert isinstance(lost, Unreadable)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), names=st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_wherever_a_file_is_cut_whole_entries_are_kept(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, names: list[int]
) -> None:
    pieces = [json.dumps({"id": name, "messages": TALK}) for name in names]
    text = f"[{', '.join(pieces)}]"
    end = data.draw(st.integers(1, len(text) - 1))
    found = read(put(tmp_path_factory.mktemp("cut"), "c.json", text[:end]))
    ends = [len("[") + sum(len(piece) + 2 for piece in pieces[: n + 1]) - 2 for n in range(len(pieces))]
    kept = names[: sum(stop <= end for stop in ends)]
    assert [t.id for t in found if isinstance(t, Transcript)] in (
        [f"c.json:{name}" for name in kept],
        # Cut behind the only entry, nothing tells that there were others.
        [f"c.json:{name}" for name in kept[:1]],
    )
    assert isinstance(found[-1], Unreadable)


def test_bytes_and_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    good, bad = json.dumps({"messages": TALK}).encode(), json.dumps({"messages": TALK}).encode()
    path.write_bytes(b"[" + b", ".join([good, bad.replace(b"Yes", b"Y\xffs"), good]) + b"]")
    found = read(path)
    assert [type(t) for t in found] == [Transcript, Unreadable, Transcript]
    assert "not UTF-8" in found[1].reason  # type: ignore[union-attr]
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)))
    (noise,) = read(tmp_path / "noise.txt")
    assert isinstance(noise, Unreadable)
    (empty,) = read(put(tmp_path, "empty.json", " \n"))
    assert empty == Unreadable("empty.json", "is empty")
    with pytest.raises(UsageError, match="no such file or folder"):
        read(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="limit is 0"):
        read(path, limit=0)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="holds no file"):
        read(tmp_path / "none")


def test_metadata_with_half_a_surrogate_pair_does_no_harm(tmp_path: Path) -> None:
    found = one(put(tmp_path, "chat.json", {"messages": TALK, "id": "\ud83d", "note": "\ud83d"}))
    assert found.id == "chat.json:\\ud83d"
    found.id.encode()


def test_parquet(tmp_path: Path) -> None:
    rows = [{"conversation_id": f"c{n}", "conversation": TALK, "language": "English"} for n in range(3)]
    rows[1]["conversation"] = None  # type: ignore[assignment]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "lmsys.parquet")
    first, second, third = read(tmp_path / "lmsys.parquet")
    assert isinstance(first, Transcript) and isinstance(third, Transcript)
    assert (first.id, first.conversation, first.metadata["language"]) == ("lmsys.parquet:c0", TEA, "English")
    assert isinstance(second, Unreadable) and second.where == "lmsys.parquet: row 2"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(TALK),
        json.dumps(TALK, indent=1),
        "\n".join(json.dumps(message) for message in TALK),
        "User: Tea?\nAssistant: Yes, please.\n",
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    opened = TranscriptSource.open("-")
    for _ in range(2):
        (found,) = opened.read()
        assert isinstance(found, Transcript)
        assert (found.id, found.conversation) == ("stdin", TEA)


def test_lines_on_standard_input_are_read_on_past_a_broken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join([json.dumps({"messages": TALK}), '{"messages": [', json.dumps(SHAREGPT)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [type(t) for t in read("-")] == [Transcript, Unreadable, Transcript]


def test_the_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    put(tmp_path, "a.json", TALK)
    put(tmp_path, "b.json", TALK)
    digest = TranscriptSource.open(tmp_path).digest()
    assert TranscriptSource.open(tmp_path).digest() == digest
    put(tmp_path, "b.json", RELEASED)
    other = TranscriptSource.open(tmp_path).digest()
    (tmp_path / "b.json").rename(tmp_path / "c.json")
    assert len({digest, other, TranscriptSource.open(tmp_path).digest()}) == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "from", "value", "messages", "tool_calls", "type", "text", "id"]
            ),
            inner | st.sampled_from(["user", "assistant", "tool", "text"]),
            max_size=4,
        )
    ),
    max_leaves=16,
)


@settings(max_examples=200, deadline=None)
@given(value=VALUES)
def test_no_value_ends_the_reading(value: Any) -> None:
    found = only(value, file="x", where="entry 1", number="1")
    if isinstance(found, Transcript):
        roles = [message.role for message in found.conversation if message.role != "system"]
        assert roles[0] == "user"
    else:
        assert found.reason


@settings(max_examples=100, deadline=None)
@given(said=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=9)), max_size=9))
def test_no_word_after_the_first_question_is_lost(said: list[tuple[str, str]]) -> None:
    said = [(role, text.encode("utf-8", "replace").decode()) for role, text in said]
    found = only([{"role": role, "content": text} for role, text in said], file="x")
    asked = next((n for n, (role, _) in enumerate(said) if role == "user"), None)
    if asked is None:
        assert isinstance(found, Unreadable)
        return
    assert isinstance(found, Transcript)
    roles = [message.role for message in found.conversation]
    assert all(role == "user" for role in roles[::2]) and all(role == "assistant" for role in roles[1::2])
    assert "".join("".join(m.content.split("\n\n")) for m in found.conversation) == "".join(
        "".join(text.split("\n\n")) for _, text in said[asked:]
    ) or any("\n" in text for _, text in said)
    assert bool(found.repairs) == (asked > 0 or len(found.conversation) < len(said) - asked)


def inspect_log(samples: list[Any], status: str = "success") -> Any:
    pytest.importorskip("inspect_ai", reason="the extra evals is not installed")
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec

    spec = EvalSpec(
        created="2026-01-01T00:00:00+00:00",
        task="tea",
        dataset=EvalDataset(name="tea", samples=len(samples), sample_ids=[s.id for s in samples]),
        model="mockllm/model",
        config=EvalConfig(epochs=1),
    )
    return EvalLog(eval=spec, status=status, samples=samples)  # type: ignore[arg-type]


def inspect_samples() -> list[Any]:
    pytest.importorskip("inspect_ai", reason="the extra evals is not installed")
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageTool,
        ChatMessageUser,
        ContentReasoning,
        ContentText,
    )
    from inspect_ai.scorer import Score
    from inspect_ai.tool import ToolCall

    long = "Yes, please. " * 400
    call = ToolCall(id="c", function="kettle", arguments={})
    reply = [ContentReasoning(reasoning="Hm."), ContentText(text=long)]
    return [
        EvalSample(
            id=1, epoch=1, input="Tea?", target="", scores={"polite": Score(value=1.0)}, metadata={"cup": 2},
            messages=[
                ChatMessageUser(content="Tea?"),
                ChatMessageAssistant(content="", tool_calls=[call]),
                ChatMessageTool(content="boiled", tool_call_id="c"),
                ChatMessageAssistant(content=reply),
            ],
        ),
        EvalSample(id="two", epoch=1, input="Tea?", target="", messages=[]),
        EvalSample(id="two", epoch=2, input="Tea?", target="", messages=[ChatMessageUser(content="Tea?")]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_logs_of_inspect(tmp_path: Path, kind: str) -> None:
    from inspect_ai.log import write_eval_log

    path = tmp_path / f"log.{kind}"
    write_eval_log(inspect_log(inspect_samples()), path)
    first, second, third = read(path)
    assert isinstance(first, Transcript)
    assert first.id == f"log.{kind}:1/1" and first.where == f"log.{kind}: sample 1, epoch 1"
    assert first.conversation == (TEA[0], Message("assistant", "Yes, please. " * 400, reasoning="Hm."))
    assert first.metadata["scores"] == {"polite": 1.0} and first.metadata["sample_metadata"] == {"cup": 2}
    assert (first.metadata["epoch"], first.metadata["model"]) == (1, "mockllm/model")
    assert "1 tool message" in first.repairs and "reasoning of 1" in first.repairs
    assert isinstance(second, Unreadable) and second.reason == "has no messages"
    assert isinstance(third, Transcript) and third.id == f"log.{kind}:two/2"


def test_a_damaged_sample_of_a_log_does_not_keep_the_others_back(tmp_path: Path) -> None:
    from inspect_ai.log import write_eval_log

    path = tmp_path / "log.json"
    write_eval_log(inspect_log(inspect_samples()), path)
    value = json.loads(path.read_text())
    value["samples"][1] = {"id": "two", "messages": 7}
    path.write_text(json.dumps(value))
    found = read(path)
    assert [type(t) for t in found] == [Transcript, Unreadable, Transcript]
    assert "cannot be read" in found[1].reason  # type: ignore[union-attr]
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04 and no more")
    (damaged,) = read(tmp_path / "log.eval")
    assert isinstance(damaged, Unreadable) and "no readable log" in damaged.reason


def test_a_log_without_the_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    (tmp_path / "log.eval").write_bytes(b"")
    with pytest.raises(InteropError, match="inspect_ai is not installed") as caught:
        read(tmp_path / "log.eval")
    assert "personascope[evals]" in caught.value.hint
