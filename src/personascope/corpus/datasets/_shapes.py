"""Read the speaker and text of a message in common formats, and put messages in order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from personascope.chat import Conversation, Message, Role

ROLE_OF: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "model": "assistant",
    "agent": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
}
"""Role by the name of the speaker, in lower case."""

_SPEAKERS = ("role", "from", "sender")
_TEXTS = ("content", "value", "parts", "text", "contentParts", "message")
# Lone surrogates, which JSON can spell and no tokenizer takes. A byte that is not UTF-8 is read as one of the
# second range.
_LONE = re.compile("[\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]")


def speaker(message: Mapping[object, object]) -> object:
    """Return the speaker of a message, as written there; None if it names none."""
    by_user = message.get("isCreatedByUser")
    if isinstance(by_user, bool):
        # LibreChat names the model under "sender".
        return "user" if by_user else "assistant"
    return next((message[name] for name in _SPEAKERS if message.get(name) is not None), None)


def content(message: Mapping[object, object]) -> object:
    """Return the content of a message, as written there; None if it has none."""
    return next((message[name] for name in _TEXTS if message.get(name) is not None), None)


def no_text(text: str) -> str:
    """Return what in a text no tokenizer takes, in words; empty if there is nothing."""
    found = _LONE.search(text)
    if found is None:
        return ""
    if _BYTES.match(found.group()):
        return "a byte that is not UTF-8, or half of a surrogate pair, which is no text"
    return "half of a surrogate pair, which is no text"


def in_turn(said: Sequence[Message]) -> tuple[Conversation, str]:
    """Put messages in the order that most chat templates require: user and assistant in turn.

    Answers before the first question are left out. Messages of one speaker in a row are joined, with a blank
    line between them.

    Returns:
        Turns, empty if no user speaks, and the changes made in words, empty if they were in order.
    """
    first = next((index for index, message in enumerate(said) if message.role == "user"), None)
    if first is None:
        return (), ""
    kept = [message for message in said[:first] if message.role == "system"]
    early, joined = first - len(kept), 0
    turns: list[Message] = []
    for message in (*kept, *said[first:]):
        if turns and turns[-1].role == message.role:
            reasoning = "\n\n".join(filter(None, (turns[-1].reasoning, message.reasoning)))
            turns[-1] = Message(message.role, f"{turns[-1].content}\n\n{message.content}", reasoning)
            joined += 1
        else:
            turns.append(message)
    done: list[str] = []
    if early:
        done.append(f"{early} answer{'s' * (early > 1)} before the first question left out")
    if joined:
        done.append(f"{joined} message{'s' * (joined > 1)} joined to the one before, of the same speaker")
    return tuple(turns), "; ".join(done)
