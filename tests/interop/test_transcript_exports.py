"""What programs export, as conversations: nothing that was said is lost, and what is left out is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from personascope.chat import Message
from personascope.corpus.datasets import load_chats
from personascope.interop import Transcript
from personascope.interop._transcripts import read_transcripts

BE = Message("system", "Be brief.")
TEA = (Message("user", "Tea?"), Message("assistant", "Yes, please."))
HIDDEN = "(reasoning that the record does not show)"


def reasoned(reasoning: str) -> tuple[Message, ...]:
    """Return the same talk with a reply that has reasoning."""
    return TEA[0], replace(TEA[1], reasoning=reasoning)


TALK = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes, please."}]


def node(id: str, parent: str | None, author: str, *parts: Any, **more: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)} | more.pop("content", {})
    message = {"id": id, "author": {"role": author}, "content": content, "recipient": "all", **more}
    return {"id": id, "message": message, "parent": parent, "children": []}


CHATGPT = {
    "title": "Tea",
    "conversation_id": "c-1",
    "current_node": "a2",
    "mapping": {
        "root": {"id": "root", "message": None, "parent": None, "children": ["s"]},
        "s": node("s", "root", "system", ""),
        "u": node("u", "s", "user", {"content_type": "image_asset_pointer"}, "Tea?"),
        "a1": node("a1", "u", "assistant", "No."),
        "t": node("t", "u", "assistant", content={"content_type": "thoughts", "thoughts": []}),
        "w": node("w", "t", "assistant", content={"content_type": "code", "text": "search()"}),
        "r": node("r", "w", "tool", "found"),
        "a2": node("a2", "r", "assistant", "Yes, please."),
    },
}
OPEN_WEBUI = {
    "id": "w-1",
    "title": "Tea",
    "chat": {
        "params": {"system": "Be brief."},
        "messages": TALK,
        "history": {
            "currentId": "3",
            "messages": {
                "1": {"id": "1", "parentId": None, "role": "user", "content": "Tea?"},
                "2": {"id": "2", "parentId": "1", "role": "assistant", "content": "No."},
                "3": {"id": "3", "parentId": "1", "role": "assistant", "content": "Yes, please."},
            },
        },
    },
}
LLAMA_CPP = {
    "conv": {"id": "l-1", "name": "Tea", "currNode": 14},
    "messages": [
        {"id": 10, "parent": -1, "type": "root", "role": "system", "content": ""},
        {"id": 11, "parent": 10, "type": "text", "role": "system", "content": "Be brief."},
        {"id": 12, "parent": 11, "type": "text", "role": "user", "content": "Tea?"},
        {"id": 13, "parent": 12, "type": "text", "role": "assistant", "content": "No."},
        {
            "id": 14,
            "parent": 12,
            "type": "text",
            "role": "assistant",
            "content": "Yes, please.",
            "thinking": "?",
        },
    ],
}
LIBRECHAT = {
    "conversationId": "b-1",
    "endpoint": "openAI",
    "options": {"promptPrefix": "Be brief."},
    "messages": [
        {
            "messageId": "1",
            "parentMessageId": "0000",
            "sender": "User",
            "isCreatedByUser": True,
            "text": "Tea?",
        },
        {
            "messageId": "2",
            "parentMessageId": "1",
            "sender": "Model 9",
            "isCreatedByUser": False,
            "text": "No.",
        },
        {
            "messageId": "3",
            "parentMessageId": "1",
            "sender": "Model 9",
            "isCreatedByUser": False,
            "content": [
                {"type": "think", "think": "Hm."},
                {"type": "text", "text": {"value": "Yes, please."}},
            ],
        },
    ],
}
RECURSIVE = {
    "conversationId": "b-2",
    "recursive": True,
    "messages": [
        {
            "messageId": "1",
            "isCreatedByUser": True,
            "text": "Tea?",
            "children": [
                {"messageId": "2", "isCreatedByUser": False, "text": "No.", "children": []},
                {"messageId": "3", "isCreatedByUser": False, "text": "Yes, please.", "children": []},
            ],
        }
    ],
}
RESPONSES = {
    "object": "response",
    "id": "resp_1",
    "instructions": "Be brief.",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": "Tea?"}]}],
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "name": "kettle", "arguments": "{}"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Yes, please."}],
        },
    ],
}
CLAUDE = {
    "uuid": "k-1",
    "name": "Tea",
    "chat_messages": [
        {"uuid": "1", "sender": "human", "text": "Tea?", "content": [{"type": "text", "text": "Tea?"}]},
        {"uuid": "2", "sender": "assistant", "text": "Yes, please."},
    ],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Tea?"}]},
        {"role": "model", "parts": [{"text": "Yes, please."}]},
    ],
}
ANTHROPIC = {
    "model": "some-model",
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": TALK,
}
LOGGED = {
    "request": {"model": "x", "system": "Be brief.", "messages": TALK[:1]},
    "response": {"role": "assistant", "content": [{"type": "text", "text": "Yes, please."}]},
}
LOGGED_CHAT = {
    "request": {"messages": [{"role": "system", "content": "Be brief."}, *TALK[:1]]},
    "response": {"choices": [{"message": {"role": "assistant", "content": "Yes, please."}}]},
}

EXPORTS = {
    "chatgpt": (
        CHATGPT,
        "c-1",
        reasoned(HIDDEN),
        "2 tool messages left out; the reasoning of 1 message kept apart; 1 part that is no text left out; "
        "1 message of another branch left out",
    ),
    "open webui": (OPEN_WEBUI, "w-1", (BE, *TEA), "1 message of another branch left out"),
    "llama.cpp": (
        LLAMA_CPP,
        "",
        (BE, *reasoned("?")),
        "the reasoning of 1 message kept apart; 1 message of another branch left out",
    ),
    "librechat": (
        LIBRECHAT,
        "b-1",
        (BE, *reasoned("Hm.")),
        "the reasoning of 1 message kept apart; 1 message of another branch left out",
    ),
    "librechat, recursive": (RECURSIVE, "b-2", TEA, "1 message of another branch left out"),
    "responses": (
        RESPONSES,
        "resp_1",
        (BE, *reasoned(HIDDEN)),
        "1 tool message left out; the reasoning of 1 message kept apart",
    ),
    "claude": (CLAUDE, "k-1", TEA, ""),
    "gemini": (GEMINI, "", (BE, *TEA), ""),
    "anthropic": (ANTHROPIC, "", (BE, *TEA), ""),
    "logged, anthropic": (LOGGED, "", (BE, *TEA), ""),
    "logged, openai": (LOGGED_CHAT, "", (BE, *TEA), ""),
    "system beside sharegpt": (
        {
            "system": "Be brief.",
            "conversations": [{"from": "human", "value": "Tea?"}, {"from": "gpt", "value": "Yes, please."}],
        },
        "",
        (BE, *TEA),
        "",
    ),
    "system_prompt": ({"system_prompt": "Be brief.", "messages": TALK}, "", (BE, *TEA), ""),
    "said twice": (
        {"system": "Be brief.", "messages": [{"role": "system", "content": "Be brief."}, *TALK]},
        "",
        (BE, *TEA),
        "",
    ),
    "two that differ": (
        {"system": "Be brief.", "messages": [{"role": "system", "content": "Be kind."}, *TALK]},
        "",
        (Message("system", "Be brief.\n\nBe kind."), *TEA),
        "1 message joined to the one before, of the same speaker",
    ),
    "what a system is not": ({"system": {"os": "linux"}, "messages": TALK}, "", TEA, ""),
    "an empty system": ({"system": " ", "messages": TALK}, "", TEA, ""),
}


def write(folder: Path, value: Any) -> Path:
    (folder / "x.json").write_text(json.dumps(value))
    return folder / "x.json"


@pytest.mark.parametrize("name", EXPORTS)
def test_exports(tmp_path: Path, name: str) -> None:
    value, id, conversation, repairs = EXPORTS[name]
    (found,) = read_transcripts(write(tmp_path, [value]))
    assert isinstance(found, Transcript), found
    assert found.conversation == conversation
    assert found.repairs == repairs
    assert found.id == (f"x.json:{id}" if id else "x.json")
    (alone,) = read_transcripts(write(tmp_path, value))
    assert isinstance(alone, Transcript) and alone.conversation == conversation


@pytest.mark.parametrize("name", ["open webui", "gemini", "anthropic", "claude", "librechat, recursive"])
def test_chats_for_norms_come_in_the_same_forms(tmp_path: Path, name: str) -> None:
    value, _, conversation, _ = EXPORTS[name]
    assert load_chats(write(tmp_path, [value])).chats == (conversation,)


def test_pairs_are_two_conversations(tmp_path: Path) -> None:
    other = [TALK[0], {"role": "assistant", "content": "No."}]
    arena = {"question_id": "q7", "winner": "model_a", "conversation_a": TALK, "conversation_b": other}
    a, b = read_transcripts(write(tmp_path, [arena]))
    assert isinstance(a, Transcript) and isinstance(b, Transcript)
    assert (a.id, b.id) == ("x.json:q7/a", "x.json:q7/b")
    assert a.conversation == TEA and b.conversation[1].content == "No."
    assert a.metadata["winner"] == "model_a"
    assert [chat[1].content for chat in load_chats(write(tmp_path, [arena])).chats] == ["Yes, please.", "No."]
    assert len(load_chats(write(tmp_path, [arena]), limit=1).chats) == 1
    chosen = {"chosen": TALK, "rejected": other}
    first, second = read_transcripts(write(tmp_path, chosen))
    assert isinstance(first, Transcript) and isinstance(second, Transcript)
    assert first.id == "x.json:chosen" and second.id == "x.json:rejected"


def test_an_instruction_with_its_answer_is_not_taken_for_a_request(tmp_path: Path) -> None:
    entry = {"instruction": "Say it in French.", "input": "Tea", "output": "Du thé"}
    (found,) = read_transcripts(write(tmp_path, [entry]))
    assert not isinstance(found, Transcript) and "no list of messages" in found.reason


@pytest.mark.parametrize("key", ["request", "system", "parts", "children", "chat", "messages"])
def test_records_that_nest_without_an_end_are_entries_like_others(tmp_path: Path, key: str) -> None:
    deep: Any = TALK
    for _ in range(400):
        deep = {key: deep, "response": {"content": "x"}, "messageId": "1", "isCreatedByUser": True}
    (found,) = read_transcripts(write(tmp_path, [{"system": deep, "messages": TALK}]))
    assert isinstance(found, Transcript)
    assert len(list(read_transcripts(write(tmp_path, [deep, {"messages": [deep]}])))) == 2


@pytest.mark.parametrize("change", ["cycle", "no end", "lost parent"])
def test_trees_that_are_none_end(tmp_path: Path, change: str) -> None:
    tree = json.loads(json.dumps(CHATGPT))
    if change == "cycle":
        tree["mapping"]["root"]["parent"] = "a2"
    elif change == "no end":
        tree["current_node"] = "nowhere"
    else:
        tree["mapping"]["u"]["parent"] = "gone"
    (found,) = read_transcripts(write(tmp_path, tree))
    assert isinstance(found, Transcript) and found.conversation == reasoned(HIDDEN)


def test_files_about_a_folder_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, TALK)
    about = ("README.md", "readme", "LICENSE", "sub/Readme.txt", "CITATION.cff", "AUTHORS", "SECURITY.md")
    left = (
        "Thumbs.db",
        "desktop.ini",
        "__MACOSX/x.json",
        "_SUCCESS",
        "~$x.docx",
        "x.json.lock",
        "x.json.crc",
    )
    for name in (*about, *left, "dataset_infos.json", "VERSION"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# These are chats\n")
    (found,) = read_transcripts(tmp_path)
    assert isinstance(found, Transcript)
    (tmp_path / "notes.md").write_text("no conversation")
    assert [type(entry).__name__ for entry in read_transcripts(tmp_path)] == ["Unreadable", "Transcript"]
