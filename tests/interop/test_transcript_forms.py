"""More forms of records: a system prompt under any name, replies beside, entries inside, reasoning apart."""

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
THOUGHT = (TEA[0], replace(TEA[1], reasoning="Hm."))
ASKED = {"role": "user", "content": "Tea?"}
REPLY = {"role": "assistant", "content": "Yes, please."}
TALK = [ASKED, REPLY]
ORDERED = {"role": "system", "content": "Be brief."}


def lang(name: str, text: str) -> dict[str, Any]:
    return {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", f"{name}Message"],
        "kwargs": {"content": text},
    }


SYSTEMS = {
    **{
        name: {name: "Be brief.", "messages": TALK}
        for name in ("developer", "systemMessage", "SYSTEM", "sys_prompt")
    },
    "instructions": {"instructions": "Be brief.", "messages": TALK},
    "in its settings": {"metadata": {"system_prompt": "Be brief."}, "messages": TALK},
    "a message of its own": {"system": [ORDERED], "messages": TALK},
    "cohere": {
        "preamble": "Be brief.",
        "chat_history": [{"role": "USER", "message": "Tea?"}, {"role": "CHATBOT", "message": "Yes, please."}],
    },
    "langchain": {
        "messages": [lang("System", "Be brief."), lang("Human", "Tea?"), lang("AI", "Yes, please.")]
    },
    "langchain, as data": {
        "messages": [
            {"type": "system", "data": {"content": "Be brief."}},
            {"type": "human", "data": {"content": "Tea?"}},
            {"type": "ai", "content": "Yes, please."},
        ]
    },
    "a batch of requests": {"custom_id": "a", "body": {"messages": [ORDERED, *TALK]}},
    "petri": {"target_messages": [ORDERED, *TALK], "events": []},
    "an export of one chat": {"chats": [{"title": "x", "messages": [ORDERED, *TALK]}], "version": 1},
    "a trace": {"input": {"messages": [ORDERED, ASKED]}, "output": REPLY},
    "a trace of a list": {"input": [ORDERED, ASKED], "output": REPLY},
    "lm studio": {
        "systemPrompt": "Be brief.",
        "messages": [
            {
                "versions": [{"role": "user", "content": [{"type": "text", "text": "Tea?"}]}],
                "currentlySelected": 0,
            },
            {
                "versions": [
                    {"role": "assistant", "content": "No."},
                    {
                        "role": "assistant",
                        "steps": [
                            {"type": "contentBlock", "content": [{"type": "text", "text": "Yes, please."}]}
                        ],
                    },
                ],
                "currentlySelected": 1,
            },
        ],
    },
}
PLAIN = {
    "choices beside": {"messages": [ASKED], "choices": [{"message": REPLY}]},
    "a response beside": {"messages": [ASKED], "response": "Yes, please."},
    "a completion beside": {"messages": [ASKED], "completion": {"choices": [{"message": REPLY}]}},
    "request_body": {
        "request_body": {"messages": [ASKED]},
        "response_body": {"choices": [{"message": REPLY}]},
    },
    "prompt and completion": {"prompt": "Tea?", "completion": "Yes, please."},
    "lists of both": {"prompt": [ASKED], "completion": [REPLY]},
    "texts in turn": {"id": "0", "data": ["Tea?", "Yes, please."]},
    "pairs of texts": {"internal": [["Tea?", "Yes, please."]], "visible": [["Tea?", "Yes, please."]]},
    "a tree of replies": {
        "prompt": {
            "role": "prompter",
            "text": "Tea?",
            "replies": [{"role": "assistant", "text": "Yes, please."}, {"role": "assistant", "text": "No."}],
        }
    },
    "grok": {
        "conversations": [
            {
                "conversation": {"id": "c"},
                "responses": [
                    {"response": {"sender": "human", "message": "Tea?"}},
                    {"response": {"sender": "ASSISTANT", "message": "Yes, please."}},
                ],
            }
        ]
    },
    "a tool's answer is no user": {
        "messages": [
            ASKED,
            {"role": "user", "content": [{"type": "tool_result", "content": "hot"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "kettle"}}]},
            REPLY,
        ]
    },
}
THINKS = {
    "gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": "Tea?"}]},
            {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "Yes, please."}]},
        ]
    },
    "ai studio": {
        "chunkedPrompt": {
            "chunks": [
                {"role": "user", "text": "Tea?"},
                {"role": "model", "text": "Hm.", "isThought": True},
                {"role": "model", "text": "Yes, please."},
            ]
        }
    },
    "bedrock": {
        "messages": [
            ASKED,
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Hm."}}},
                    {"text": "Yes, please."},
                ],
            },
        ]
    },
    "deepseek": {
        "mapping": {
            "1": {"parent": None, "message": {"fragments": [{"type": "REQUEST", "content": "Tea?"}]}},
            "2": {
                "parent": "1",
                "message": {
                    "fragments": [
                        {"type": "THINK", "content": "Hm."},
                        {"type": "RESPONSE", "content": "Yes, please."},
                    ]
                },
            },
        }
    },
    "channels of messages": {
        "messages": [ASKED, {"role": "assistant", "channel": "analysis", "content": "Hm."}, REPLY]
    },
    "a speaker that thinks": {"messages": [ASKED, {"role": "thinking", "content": "Hm."}, REPLY]},
    **{
        key: {"messages": [ASKED, {**REPLY, key: value}]}
        for key, value in {
            "reasoning_text": "Hm.",
            "thoughts": "Hm.",
            "reasoningContent": "Hm.",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
            "thinking_blocks": [{"type": "thinking", "thinking": "Hm."}],
        }.items()
    },
    **{
        text: {"messages": [ASKED, {"role": "assistant", "content": text}]}
        for text in (
            "◁think▷Hm.◁/think▷Yes, please.",
            "<Think>Hm.</think>\nYes, please.",
            "<antThinking>Hm.</antThinking>Yes, please.",
            "<|channel>thought\nHm.<channel|>Yes, please.",
            "analysisHm.assistantfinalYes, please.",
            "Here is my thought process: Hm. Here is my response: Yes, please.",
            "<details>\n<summary>Thinking…</summary>\nHm.\n</details>\nYes, please.",
        )
    },
}
FORMS = {
    **{name: (value, (BE, *TEA)) for name, value in SYSTEMS.items()},
    **{name: (value, TEA) for name, value in PLAIN.items()},
    **{name: (value, THOUGHT) for name, value in THINKS.items()},
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_keeps_system_reasoning_and_reply(tmp_path: Path, name: str) -> None:
    value, conversation = FORMS[name]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(value) + "\n")
    (found,) = read_transcripts(path)
    assert isinstance(found, Transcript), found
    assert found.conversation == conversation
    assert ("reasoning" in found.repairs) == (conversation is THOUGHT)


@pytest.mark.parametrize("name", ["gemini", "cohere", "langchain", "a response beside", "a tree of replies"])
def test_norms_read_the_same_without_the_reasoning(tmp_path: Path, name: str) -> None:
    value, conversation = FORMS[name]
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(value) + "\n")
    assert load_chats(path).chats == (tuple(replace(one, reasoning="") for one in conversation),)


LINES = {
    "claude code": [
        {"type": "summary", "summary": "Tea", "leafUuid": "2"},
        {"type": "user", "sessionId": "s", "message": ASKED},
        {
            "type": "assistant",
            "sessionId": "s",
            "message": {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm."},
                    {"type": "text", "text": "Yes, please."},
                ],
            },
        },
    ],
    "sillytavern": [
        {"user_name": "You", "character_name": "Ada"},
        {"name": "You", "is_user": True, "mes": "Tea?"},
        {"name": "Ada", "is_user": False, "mes": "Yes, please.", "extra": {"reasoning": "Hm."}},
    ],
}


@pytest.mark.parametrize("name", LINES)
def test_sessions_of_a_message_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, LINES[name])))
    (found,) = read_transcripts(tmp_path / "x.jsonl")
    assert isinstance(found, Transcript) and found.conversation == THOUGHT


def test_a_preference_between_replies_to_one_prompt(tmp_path: Path) -> None:
    other = {"role": "assistant", "content": "No."}
    for value in (
        {"prompt": [ORDERED, ASKED], "chosen": [REPLY], "rejected": [other]},
        {"system": "Be brief.", "prompt": "Tea?", "chosen": "Yes, please.", "rejected": "No."},
    ):
        (tmp_path / "x.json").write_text(json.dumps(value))
        first, second = read_transcripts(tmp_path / "x.json")
        assert isinstance(first, Transcript) and isinstance(second, Transcript)
        assert first.conversation == (BE, *TEA) and second.conversation[-1].content == "No."


@pytest.mark.parametrize(
    "text",
    [
        "System: Be brief.\nUser: Tea?\nAssistant: <think>Hm.</think>Yes, please.\n",
        "**System:** Be brief.\n\n**User:** Tea?\n\n**Assistant:** <think>Hm.</think>Yes, please.",
        "## System\n\nBe brief.\n\n## User\n\nTea?\n\n## Assistant\n\n<think>Hm.</think>Yes, please.\n",
        "System: Be brief.\n\nHuman: Tea?\n\nAI: <think>Hm.</think>Yes, please.",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTea?<|im_end|>\n"
        "<|im_start|>assistant\n<think>Hm.</think>Yes, please.<|im_end|>\n",
    ],
)
def test_texts_with_labels(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.md").write_text(text)
    (found,) = read_transcripts(tmp_path / "x.md")
    assert isinstance(found, Transcript) and found.conversation == (BE, *THOUGHT)


def test_a_label_of_another_kind_is_a_word_of_the_answer(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text(
        "User: Tea?\nAssistant: Two things:\nAI: kettles\n# Model of tea\nBot: pots"
    )
    (found,) = read_transcripts(tmp_path / "x.txt")
    assert isinstance(found, Transcript)
    assert found.conversation[1].content == "Two things:\nAI: kettles\n# Model of tea\nBot: pots"
