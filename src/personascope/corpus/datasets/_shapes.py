"""The shapes in which conversations come: where the messages are, who speaks, in which order."""

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
    "ai": "assistant",
}
"""Names of speakers, in lower case."""

_SPEAKERS = ("role", "from", "sender")
_TEXTS = ("content", "value", "parts", "text")
# Half of a surrogate pair: no tokenizer takes it, and JSON can spell it. A byte that is not UTF-8 is read
# as one of the second half.
_LONE = re.compile("[\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]")


def speaker(message: Mapping[object, object]) -> object:
    """Return who says a message, as it stands there; None where nobody is named."""
    by_user = message.get("isCreatedByUser")
    if isinstance(by_user, bool):
        # LibreChat names the model under "sender".
        return "user" if by_user else "assistant"
    return next((message[name] for name in _SPEAKERS if message.get(name) is not None), None)


def content(message: Mapping[object, object]) -> object:
    """Return what a message says, as it stands there; None where it says nothing."""
    return next((message[name] for name in _TEXTS if message.get(name) is not None), None)


def no_text(text: str) -> str:
    """Name what in a text no tokenizer takes; empty where it is whole."""
    found = _LONE.search(text)
    if found is None:
        return ""
    if _BYTES.match(found.group()):
        return "a byte that is not UTF-8, or half of a surrogate pair, which is no text"
    return "half of a surrogate pair, which is no text"


def in_turn(said: Sequence[Message]) -> tuple[Conversation, str]:
    """Put messages in the order that most chat templates ask for: user and assistant in turn.

    Answers before the first question are left out; messages of one speaker in a row are joined, a
    blank line between them.

    Returns:
        The turns, none where no user speaks; and what was done, empty where they stood in order.
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
