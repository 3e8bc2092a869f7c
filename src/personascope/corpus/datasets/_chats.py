"""Load ordinary chats, on which residual norms are measured: the built-in ones, or any dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from personascope.chat import Conversation, Message, split_reasoning
from personascope.corpus.datasets._data import BUILTIN, DATA
from personascope.corpus.datasets._message_fields import COLUMNS, MESSAGE_FIELDS, Held, conversations_of
from personascope.corpus.datasets._message_forms import is_thought
from personascope.corpus.datasets._shapes import ROLE_OF, content, in_turn, no_text, speaker
from personascope.corpus.datasets._sources import Record, read_records
from personascope.errors import CorpusError, UsageError
from personascope.store import short

CHAT_LIMIT = 10_000
"""Default maximum number of chats, the paper's number for the norms."""

_PATIENCE = 1000
_KEPT = 200


@dataclass(frozen=True, slots=True)
class ChatSet:
    """Chats that were read, and entries that could not be.

    Attributes:
        chats: Chats: after an optional system message, user and assistant in turn, the user first.
        problems: One line for each entry that could not be used, at most 200, then a line that counts the
            others. If reading had to stop, the last line says so.
        source: ``"builtin"``, or the source that the user named.
        skipped: Number of entries that could not be used, including those beyond the 200.
        repairs: Number of ``chats`` whose turns were put in order: answers before the first question left
            out, or turns of one speaker in a row joined.
    """

    chats: tuple[Conversation, ...]
    problems: tuple[str, ...]
    source: str
    skipped: int = 0
    repairs: int = 0


class _Unusable(Exception):  # noqa: N818 - never leaves this module
    """An entry is not a chat; the text says why."""


def load_chats(source: str | Path | None = None, *, limit: int | None = CHAT_LIMIT) -> ChatSet:
    """Load chats.

    An entry is a list of messages, has one under ``messages`` (OpenAI), ``conversation`` (LMSYS) or
    ``conversations`` (ShareGPT), or is an export of one of the programs that `conversations_of` knows. A
    system prompt beside the messages becomes the first of them. A message has ``role`` or ``from`` (user,
    human, assistant, gpt, bing, chatgpt, system and the like) and ``content`` or ``value``: a text, or a list
    of text parts.

    Args:
        source: None for the forty built-in chats; a .json, .jsonl, .ndjson or .parquet file, which is read
            entry by entry; or ``hub:owner/name``, ``hub:owner/name:split`` or
            ``hub:owner/name/config:split``, streamed.
        limit: Maximum number of chats, at which reading stops; None for all.

    Raises:
        CorpusError: If the source cannot be read, or there is no chat in it or in its first thousand entries.
        EvaluationError: If a hub dataset is named and ``datasets`` is not installed.
        UsageError: If the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", hint="give a number from 1, or None for all chats")
    chats: list[Conversation] = []
    problems: list[str] = []
    skipped, repairs, stopped = 0, 0, ""
    where = DATA / "chats.jsonl" if source is None else source
    for record in read_records(where, columns=COLUMNS):
        try:
            found = _chats(record)
        except _Unusable as error:
            skipped += 1
            problem = f"{record.where}: {error}"
            if record.ends:
                stopped = problem
            elif len(problems) < _KEPT:
                problems.append(problem)
            if skipped >= _PATIENCE and not chats:
                break
            continue
        for chat, in_order in found[: None if limit is None else limit - len(chats)]:
            chats.append(chat)
            repairs += not in_order
        if len(chats) == limit:
            break
    more = skipped - len(problems) - bool(stopped)
    if more:
        problems.append(f"and {more} more entries that could not be used")
    if stopped:
        problems.append(stopped)
    if not chats:
        first = f", the first at {problems[0]}" if problems else ""
        raise CorpusError(
            f"{where}: no chat in {skipped} entries{first}",
            hint="an entry needs messages, conversation or conversations with user and assistant turns",
        )
    name = BUILTIN if source is None else str(source)
    return ChatSet(tuple(chats), tuple(problems), name, skipped, repairs)


def _chats(record: Record) -> list[tuple[Conversation, bool]]:
    """Return an entry's chats (a pair holds two), and whether the turns of each were in order."""
    if record.problem:
        raise _Unusable(record.problem)
    value = record.value
    if isinstance(value, Mapping):
        entry = cast("Mapping[object, object]", value)
        found = conversations_of(entry)
        if found:
            return [_chat(held) for held in found]
        holder = next((name for name in MESSAGE_FIELDS if entry.get(name) is not None), None)
        if holder is None:
            raise _Unusable(f"has none of {', '.join(MESSAGE_FIELDS)}, but {short(sorted(map(str, entry)))}")
        value = entry[holder]
    if not isinstance(value, list):
        raise _Unusable(f"holds {short(value)}, not a list of messages")
    return [_chat(Held(cast("list[object]", value)))]


def _chat(held: Held) -> tuple[Conversation, bool]:
    said = [_message(item, number) for number, item in enumerate(cast("list[object]", held.said), start=1)]
    # Some files write an empty system message where there is none.
    said = [message for message in said if message.content or message.role != "system"]
    for number, message in enumerate(said, start=1):
        if not message.content:
            raise _Unusable(f"message {number} ({message.role}) is empty")
        if message.role == "system" and number > 1:
            raise _Unusable(f"message {number} is a system message after the beginning")
    return _in_turn(said)


def _message(value: object, number: int) -> Message:
    if not isinstance(value, Mapping):
        raise _Unusable(f"message {number} is {short(value)}, not a mapping")
    entry = cast("Mapping[object, object]", value)
    said_by = speaker(entry)
    role = ROLE_OF.get(said_by.strip().lower()) if isinstance(said_by, str) else None
    if role is None:
        raise _Unusable(f"message {number} is by {short(said_by)}, not by a user, an assistant or the system")
    text = _text(content(entry), number).strip()
    broken = no_text(text)
    if broken:
        raise _Unusable(f"message {number} holds {broken}")
    # Norms are measured on answers, without their reasoning.
    return Message(role, split_reasoning(text)[1].strip() if role == "assistant" else text)


def _text(found: object, number: int) -> str:
    """Return a message's text, joining text parts; refuse other parts, which a norm of text cannot use."""
    if isinstance(found, str):
        return found
    if not isinstance(found, list):
        raise _Unusable(f"message {number} has {short(found)} for its text")
    texts: list[str] = []
    for part in cast("list[object]", found):
        held = part
        if is_thought(part):
            continue
        if isinstance(part, Mapping):
            held = cast("Mapping[object, object]", part).get("text")
        if not isinstance(held, str):
            raise _Unusable(f"message {number} has a part that is no text: {short(cast('object', part))}")
        texts.append(held)
    return "\n".join(texts)


def _in_turn(said: list[Message]) -> tuple[Conversation, bool]:
    """Return the messages as alternating turns, and whether they alternated before."""
    turns, repairs = in_turn(said)
    if not turns:
        raise _Unusable("has no message of a user" if said else "has no messages")
    if all(message.role != "assistant" for message in turns):
        raise _Unusable("has no answer of an assistant after the user's message")
    return turns, not repairs
