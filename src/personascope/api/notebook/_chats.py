"""Conversations as people have them: texts, lists of messages, replies, files and folders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from personascope.chat import Conversation, Message, Role
from personascope.errors import UsageError
from personascope.interop import Transcript, TranscriptSource, Unreadable
from personascope.text import shorten

Chat = str | Path | Mapping[str, Any] | Sequence[Any] | Message
"""A conversation or several: the user's message, a list of messages (dicts or `Message`), a list of such
lists, a reply or chat session, or the path of a file or folder."""

_HINT = 'give [{"role": "user", "content": "..."}, ...], or the path of a file or folder'
_PATH = re.compile(r"\S*\.(?:jsonl?|ndjson|parquet|eval|txt|md)", re.IGNORECASE)
_LONGEST_PATH = 1024


def message_dicts(conversation: Sequence[Message]) -> list[dict[str, str]]:
    """Return messages as dicts with "role" and "content", and "reasoning" where there is some."""
    return [
        {"role": one.role, "content": one.content} | ({"reasoning": one.reasoning} if one.reasoning else {})
        for one in conversation
    ]


def as_conversation(chat: Any, *, system: str = "") -> Conversation:
    """Return one conversation: a text is the user's message.

    Args:
        chat: Text, list of messages, reply or chat session, or the path of a file with one conversation.
        system: System prompt to put before it.

    Raises:
        UsageError: If it is none of these, or a message is malformed.
    """
    held = getattr(chat, "messages", chat)
    messages: list[Message]
    if isinstance(held, str):
        messages = [Message("user", held)]
    elif isinstance(held, Path):
        messages = list(_only_one(held))
    elif isinstance(held, Message | Mapping):
        messages = [_message(held, 0)]
    elif isinstance(held, Sequence) and held:
        messages = [_message(one, index) for index, one in enumerate(cast("Sequence[Any]", held))]
    else:
        raise UsageError(f"{shorten(str(type(chat).__name__))} is no conversation", hint=_HINT)
    if not system:
        return tuple(messages)
    if messages[0].role == "system":
        raise UsageError("the conversation has a system message, and system= gives another", hint="give one")
    return (Message("system", system), *messages)


def _only_one(path: Path) -> Conversation:
    entries = list(TranscriptSource.open(path).read(limit=2))
    found = [one.conversation for one in entries if isinstance(one, Transcript)]
    if len(found) == len(entries) == 1:
        return found[0]
    wrong = next((one.reason for one in entries if isinstance(one, Unreadable)), "it holds several")
    raise UsageError(f"{path} is not one conversation: {wrong}", hint="project takes files of many")


def _message(given: Any, index: int) -> Message:
    if isinstance(given, Message):
        return given
    if not isinstance(given, Mapping):
        raise UsageError(f"message {index} is {shorten(str(given))}, not a dict", hint=_HINT)
    fields = cast("Mapping[str, Any]", given)
    role, content = fields.get("role"), fields.get("content")
    if role not in get_args(Role):
        raise UsageError(
            f"message {index} has the role {shorten(str(role))}", hint=f"give {', '.join(get_args(Role))}"
        )
    if not isinstance(content, str):
        raise UsageError(f"message {index} has content {shorten(str(content))}", hint="give a text")
    reasoning = fields.get("reasoning", "")
    return Message(cast("Role", role), content, reasoning if isinstance(reasoning, str) else "")


def as_source(chat: Any) -> TranscriptSource:
    """Return conversations as a source that can be projected, in any form that a file of them may have.

    A text is a path if there is such a file or if it looks like one (it ends in .json, .jsonl, .txt, ...).
    JSON and a transcript with ``User:`` are read as such, and any other text is one message of the user.

    Raises:
        UsageError: If there is no such file, or the value is no conversation.
    """
    if isinstance(chat, TranscriptSource):
        return chat
    if isinstance(chat, Path):
        return TranscriptSource.open(chat)
    if isinstance(chat, str):
        if _PATH.fullmatch(chat) or _exists(chat):
            return TranscriptSource.open(chat)
        if chat.lstrip()[:1] in ("[", "{") or re.match(r"\s*(?:User|System|Assistant):", chat):
            return TranscriptSource("chat", {}, chat)
        return _in_memory([{"role": "user", "content": chat}])
    held = getattr(chat, "messages", chat)
    if not isinstance(held, Mapping | Sequence | Message):
        raise UsageError(f"{shorten(str(type(chat).__name__))} is no conversation", hint=_HINT)
    return _in_memory(held)


def _exists(text: str) -> bool:
    try:
        return len(text) <= _LONGEST_PATH and bool(text.strip()) and Path(text).exists()
    except (OSError, ValueError):
        return False


def _in_memory(value: Any) -> TranscriptSource:
    # As JSON, so that conversations in memory are read by the rules for those in files.
    try:
        text = json.dumps(value if not isinstance(value, Message) else [value], default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the conversation cannot be read: {error}", hint=_HINT) from error
    return TranscriptSource("chat", {}, text)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return message_dicts([value])[0]
    if hasattr(value, "messages"):
        return {"messages": value.messages}
    raise TypeError(f"it holds {shorten(str(type(value).__name__))}, which is no message")
