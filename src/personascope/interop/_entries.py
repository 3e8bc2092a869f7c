"""Convert an entry of a file of conversations, in any common format, to a transcript."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from personascope.chat import Conversation, Message, split_reasoning
from personascope.corpus.datasets import (
    MESSAGE_FIELDS,
    ROLE_OF,
    Held,
    content,
    conversations_of,
    in_turn,
    is_no_text,
    is_thought,
    no_text,
    plain,
    reasoning_of,
    speaker,
    text_of,
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

_REPLY = {"message", "content", "text", "role", "data"}
REDACTED = "(reasoning that the record does not show)"


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation that was held elsewhere.

    Attributes:
        id: Name of the file with the entry's own id or its number, or the name alone if the file is one
            conversation. The same source gives the same ids.
        conversation: Turns: after an optional system message, user and assistant alternate, the user first.
            The reasoning of a reply is kept apart from its answer.
        metadata: Other fields of the entry, as plain values.
        where: File and place of the entry, for people.
        repairs: Changes that were made to get alternating turns, such as tool messages left out; "" for none.
    """

    id: str
    conversation: Conversation
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    where: str = ""
    repairs: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry, or a whole file, without a conversation.

    Attributes:
        where: File and place of the entry, for people.
        reason: Reason why it is not one.
    """

    where: str
    reason: str


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """An entry is not a conversation; the text says why."""


def is_message(value: object) -> bool:
    """Return whether an entry is a single message, so that the file is one conversation."""
    if not isinstance(value, Mapping) or conversations_of(value):
        return False
    found = plain(value)
    return isinstance(found, Mapping) and speaker(found) is not None


def is_about(value: object) -> bool:
    """Return whether an entry is what a program notes about a session, and nobody said.

    Such are the first line of SillyTavern's files, and Claude Code's summaries and snapshots.
    """
    if not isinstance(value, Mapping) or is_message(value) or is_conversation(value):
        return False
    return {"user_name", "character_name"} <= set(value) or (
        value.get("type") in ("summary", "file-history-snapshot", "system", "progress", "queue-operation")
        and not _REPLY.intersection(value)
    )


def is_conversation(value: object) -> bool:
    """Return whether an entry has the outer form of a conversation."""
    return isinstance(value, list) or (isinstance(value, Mapping) and bool(conversations_of(value)))


def read_entries(
    value: object, *, file: str, where: str = "", number: str = "", more: Mapping[str, Any] | None = None
) -> Iterator[Transcript | Unreadable]:
    """Yield the conversations of an entry: a list of messages, or a mapping that holds one list or a pair.

    Args:
        value: Value of the entry.
        file: Name of the file.
        where: Place of the entry in the file, such as "line 3"; empty where the file is the entry.
        number: Number of the entry, used in the id if it has none of its own.
        more: Further metadata; an "id" in it is the entry's own id.
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
    """Return why an entry is not a conversation."""
    if not isinstance(value, Mapping):
        return f"{_short(value)} holds no list of messages"
    known = [name for name in MESSAGE_FIELDS if value.get(name) is not None]
    what = f"{known[0]} is {_short(value[known[0]])}" if known else f"has {_short(sorted(map(str, value)))}"
    return f"{what}, and no list of messages under {', '.join(MESSAGE_FIELDS)}"


def clean(text: str) -> str:
    r"""Escape lone surrogates (``\udcff``), which a file name may hold but a UTF-8 file cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and bool(value.strip())) or type(value) is int


def _short(value: object) -> str:
    """Return the representation of a value that may be huge, cut to fit on a line."""
    return _REPR.repr(value)


def _conversation(held: Held) -> tuple[Conversation, str]:
    """Return the turns of a list of messages, and the repairs that were made."""
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
    """Return a message, or None for mere tool use; count in ``left`` what is left out or kept apart."""
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
    thoughts = reasoning_of(item)
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
    # Fields with the same text count once.
    reasoning = "\n\n".join(dict.fromkeys(thought.strip() for thought in thoughts))
    broken = no_text(reasoning)
    if broken:
        raise _Refused(f"the reasoning of message {number} holds {broken}")
    return Message(role, text, reasoning if role == "assistant" else "")


def _parts(
    found: object, item: Mapping[Any, Any], number: int, left: Counter[str], thoughts: list[str]
) -> str:
    """Join the text parts of a message; add reasoning to ``thoughts``, and count other parts in ``left``."""
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
        if is_thought(part):
            thoughts.append(text_of(part) or REDACTED)
        elif isinstance(held, str):
            texts.append(held)
        elif (kind and "text" not in kind) or is_no_text(part):
            left["part"] += 1
        else:
            raise _Refused(f"message {number} has the part {_short(part)}, which is no text")
    return "\n".join(texts)
