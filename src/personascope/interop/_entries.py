"""One entry of a file of conversations, in any of the usual shapes, as a conversation of ours."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from personascope.chat import Conversation, Message, Role, split_reasoning
from personascope.corpus.datasets import (
    MESSAGE_FIELDS,
    ROLE_OF,
    Held,
    content,
    conversations_of,
    in_turn,
    no_text,
    speaker,
)

ROLES = ("system", "user", "assistant")
_TOOLS = {"tool", "function", "ipython", "observation", "tool_response", "tool_result", "function_response"}
_CALLS = {"function_call", "tool_call"}
_IDS = ("id", "conversation_id", "conversationId", "question_id", "uuid")
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_MENDS = {
    "tool": ("1 tool message left out", "{} tool messages left out"),
    "calls": ("the tool calls of 1 message left out", "the tool calls of {} messages left out"),
    "reasoning": ("the reasoning of 1 message kept apart", "the reasoning of {} messages kept apart"),
    "part": ("1 part that is no text left out", "{} parts that are no text left out"),
    "branch": ("1 message of another branch left out", "{} messages of other branches left out"),
}

REDACTED = "(reasoning that the record does not show)"
_REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which records keep its reasoning."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation that was held somewhere.

    Attributes:
        id: The file's name and the entry's own id, or its number; the name alone where the file is one
            conversation. The same source gives the same ids.
        conversation: Its turns: user and assistant alternate, the user first; their texts are as they
            stood there, the reasoning of a reply apart from its answer.
        metadata: What else the entry says, as plain values.
        where: File and entry, for people.
        repairs: What was done to make turns of it, such as tool messages left out; "" for nothing.
    """

    id: str
    conversation: Conversation
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    where: str = ""
    repairs: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry, or a whole file, that holds no conversation.

    Attributes:
        where: File and entry, for people.
        reason: Why.
    """

    where: str
    reason: str


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """An entry is no conversation; the text says why."""


def is_message(value: object) -> bool:
    """Whether an entry is a message by itself, and the file so one conversation."""
    return isinstance(value, Mapping) and speaker(value) is not None and not conversations_of(value)


def is_conversation(value: object) -> bool:
    """Whether an entry has the outer shape of a conversation."""
    return isinstance(value, list) or (isinstance(value, Mapping) and bool(conversations_of(value)))


def read_entries(
    value: object, *, file: str, where: str = "", number: str = "", more: Mapping[str, Any] | None = None
) -> Iterator[Transcript | Unreadable]:
    """Yield the conversations of an entry: of a list of messages, or a mapping that holds one or a pair.

    Args:
        value: What the file holds.
        file: The file's name.
        where: The entry's place in the file, such as "line 3"; empty where the file is the entry.
        number: Its number, for the id where it has none of its own.
        more: Metadata beside what the entry says; "id" in it is the entry's own.
    """
    place = clean(f"{file}: {where}" if where else file)
    entry: Mapping[Any, Any] = value if isinstance(value, Mapping) else {}
    if isinstance(value, list):
        held = [Held(value)]
    elif entry:
        held = conversations_of(entry)
    else:
        held = []
    if not held:
        yield Unreadable(place, clean(_nothing_in(value)))
        return
    for one in held:
        said = clean(f"{place}, {one.part}" if one.part else place)
        try:
            conversation, repairs = _conversation(one)
        except _Refused as refused:
            yield Unreadable(said, clean(str(refused)))
            continue
        metadata = {str(key): item for key, item in entry.items() if key not in one.fields} | dict(more or {})
        own = next((metadata[key] for key in _IDS if _is_id(metadata.get(key))), number)
        name = "/".join(str(part) for part in (own, one.part) if str(part))
        yield Transcript(
            clean(f"{file}:{name}" if name else file), conversation, metadata, where=said, repairs=repairs
        )


def _nothing_in(value: object) -> str:
    """Say why an entry is no conversation."""
    if not isinstance(value, Mapping):
        return f"{_short(value)} holds no list of messages"
    known = [name for name in MESSAGE_FIELDS if value.get(name) is not None]
    what = f"{known[0]} is {_short(value[known[0]])}" if known else f"has {_short(sorted(map(str, value)))}"
    return f"{what}, and no list of messages under {', '.join(MESSAGE_FIELDS)}"


def read_text(text: str, *, file: str) -> Transcript | Unreadable:
    """Read a text with ``User:``, ``Assistant:`` and ``System:`` at the beginning of each turn."""
    turns: list[tuple[Role, list[str]]] = []
    place = clean(file)
    for line in text.splitlines():
        head, colon, rest = line.partition(":")
        role = head.strip().lower()
        if colon and role in ROLES:
            turns.append((role, [rest.strip()]))
        elif turns:
            turns[-1][1].append(line)
        elif line.strip():
            return Unreadable(
                place,
                clean(f"begins with {line[:60]!r}, and neither JSON nor 'User:', 'Assistant:' or 'System:'"),
            )
    broken = no_text(text)
    if broken or not turns:
        return Unreadable(place, f"holds {broken}" if broken else "is empty")
    conversation, repairs = in_turn([Message(role, "\n".join(lines).strip()) for role, lines in turns])
    if not conversation:
        return Unreadable(place, "has no message of a user")
    return Transcript(place, conversation, where=place, repairs=repairs)


def clean(text: str) -> str:
    r"""Spell out halves of surrogate pairs (``\udcff``): a name may hold them, no file takes them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or type(value) is int


def _short(value: object) -> str:
    """Return a value's representation, cut to what fits on a line; entries may be huge."""
    return _REPR.repr(value)


def _conversation(held: Held) -> tuple[Conversation, str]:
    """Return the turns of a list of messages, and what was done to make them."""
    if not held.messages:
        raise _Refused("has no messages")
    said: list[Message] = []
    left: Counter[str] = Counter(branch=held.branched)
    for number, item in enumerate(held.said):
        message = _message(item, number, left)
        if message is None:
            continue
        if message.role == "assistant" and said and _is_reasoning(said[-1]):
            # Some records keep the reasoning of a reply in a message of its own, before it.
            before = said.pop()
            both = "\n\n".join(filter(None, (before.reasoning, message.reasoning)))
            message = replace(message, reasoning=both)
        said.append(message)
    conversation, turned = in_turn(said)
    if not conversation:
        raise _Refused("has no message of a user")
    done = [
        (one if left[kind] == 1 else many.format(left[kind]))
        for kind, (one, many) in _MENDS.items()
        if left[kind]
    ]
    return conversation, "; ".join([*done, turned] if turned else done)


def _is_reasoning(message: Message) -> bool:
    return bool(message.reasoning) and not message.content.strip()


def _message(item: object, number: int, left: Counter[str]) -> Message | None:
    """Return a message, or None for one of tools alone, which is counted in ``left``."""
    if not isinstance(item, Mapping):
        raise _Refused(f"message {number} is {_short(item)}, not a mapping")
    said_by = speaker(item)
    name = said_by.strip().lower() if isinstance(said_by, str) else ""
    if name in _TOOLS or name in _CALLS:
        left["tool" if name in _TOOLS else "calls"] += 1
        return None
    role = ROLE_OF.get(name)
    if role is None:
        raise _Refused(f"message {number} is by {_short(said_by)}, not by {', '.join(ROLES)} or a tool")
    thoughts = [text for key in _REASONING if isinstance(text := item.get(key), str) and text.strip()]
    found = content(item)
    if found is None and isinstance(item.get("refusal"), str):
        found = item["refusal"]
    called = bool(item.get("tool_calls") or item.get("function_call"))
    if called:
        left["calls"] += 1
        if found is None:
            return None
    text = found if isinstance(found, str) else _parts(found, item, number, left, thoughts)
    if role == "assistant":
        inside, text = split_reasoning(text)
        thoughts += [inside] if inside else []
    if thoughts:
        left["reasoning"] += 1
    if called and not text.strip():
        return None
    broken = no_text(text)
    if broken:
        raise _Refused(f"message {number} holds {broken}")
    # Fields that say the same are one thought.
    reasoning = "\n\n".join(dict.fromkeys(thought.strip() for thought in thoughts))
    broken = no_text(reasoning)
    if broken:
        raise _Refused(f"the reasoning of message {number} holds {broken}")
    return Message(role, text, reasoning if role == "assistant" else "")


def _parts(
    found: object, item: Mapping[Any, Any], number: int, left: Counter[str], thoughts: list[str]
) -> str:
    """Join the parts of text of a message; reasoning goes to ``thoughts``, other kinds are counted."""
    if found is None:
        raise _Refused(f"message {number} is {_short(dict(item))}, without a text")
    if not isinstance(found, list):
        raise _Refused(f"message {number} has {_short(found)} for its text")
    texts: list[str] = []
    for part in found:
        held, kind = part, ""
        if isinstance(part, Mapping):
            kind = str(part.get("type", ""))
            held = part.get("text", part.get("refusal"))
            held = held.get("value") if isinstance(held, Mapping) else held
        if re.search("reasoning|think", kind):
            thoughts.append(_thought(part) or REDACTED)
        elif isinstance(held, str):
            texts.append(held)
        elif kind and "text" not in kind:
            left["part"] += 1
        else:
            raise _Refused(f"message {number} has the part {_short(part)}, which is no text")
    return "\n".join(texts)


def _thought(part: Any) -> str:
    """Return the text of a part of reasoning, in whichever key it lies; "" for one that is redacted."""
    held = next(
        (part[key] for key in ("thinking", "reasoning", "think", "text", "summary") if part.get(key)), ""
    )
    if isinstance(held, list):
        held = "\n".join(_thought(one) if isinstance(one, Mapping) else str(one) for one in held)
    return held if isinstance(held, str) else ""
