"""Fields beside or around a list of messages: system prompts, replies, prompts, entries inside an entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

Entry = Mapping[str, Any]

SYSTEMS = (
    "system", "system_prompt", "system_message", "systemPrompt", "systemMessage", "systemInstruction",
    "system_instruction", "system_instructions", "sys_prompt", "developer", "developer_message",
    "developer_prompt", "preamble", "instructions", "promptPrefix",
)  # fmt: skip
"""Fields with a system prompt beside the messages, in any case of their letters."""

SETTINGS = ("options", "metadata", "params", "parameters", "config", "settings", "runSettings", "extra")
"""Fields with settings, among which a system prompt may be."""

ANSWERS = (
    "choices",
    "response",
    "response_body",
    "completion",
    "output",
    "reply",
    "generation",
    "model_output",
)
"""Fields with the reply of a model beside the messages that it answers."""

WRAPPERS = (
    "body",
    "request_body",
    "input",
    "session",
    "chunkedPrompt",
    "chats",
    "threads",
    "data",
    "conversations",
)
"""Fields with an entry, or a list of entries, that holds the messages."""

_BY_NAME = {name.lower().replace("_", ""): place for place, name in enumerate(SYSTEMS)}


def system_in(entry: Entry) -> str:
    """Return the system prompt beside the messages of an entry, or among its settings; "" for none."""
    own = _system(entry)
    if own:
        return own
    for name in SETTINGS:
        inside = entry.get(name)
        if isinstance(inside, Mapping):
            # In settings a bare "system" or "instructions" may be anything, but for the options of a chat.
            settings = cast("Entry", inside)
            strict = {k: v for k, v in settings.items() if name in ("options", "params") or not _is_bare(k)}
            found = _system(strict)
            if found:
                return found
    return ""


def _is_bare(name: object) -> bool:
    return str(name).lower() in ("system", "instructions", "developer")


def _system(entry: Entry) -> str:
    places = {
        _BY_NAME[plain]: name
        for name in entry
        if (plain := str(name).lower().replace("_", "").replace("-", "")) in _BY_NAME
    }
    return next((text for _, name in sorted(places.items()) if (text := _text(entry[name]))), "")


def answers_in(entry: Entry) -> list[Any]:
    """Return the reply of a model under one of `ANSWERS`, as messages; empty if there is none."""
    for name in ANSWERS:
        value = entry.get(name)
        if isinstance(value, str) and value.strip():
            return [{"role": "assistant", "content": value}]
        found = _answer(value)
        if found:
            return found
    return []


def _answer(value: object) -> list[Any]:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if items and isinstance(items[0], Mapping) and "message" in items[0]:
            return [cast("Entry", items[0])["message"]]
        if items and all(isinstance(one, Mapping) for one in items):
            return list(response_items(items))
        return []
    if not isinstance(value, Mapping):
        return []
    found = cast("Entry", value)
    if isinstance(found.get("message"), Mapping):
        return [found["message"]]
    inner = answers_in({name: found[name] for name in ("choices", "output") if name in found})
    if inner:
        return inner
    if found.get("content") is None:
        return []
    return [found if found.get("role") is not None else {"role": "assistant", **found}]


def response_items(items: Sequence[Any]) -> Iterator[Any]:
    """Yield items of OpenAI's Responses API as messages; calls and reasoning have no speaker there."""
    for item in items:
        found: Entry = item if isinstance(item, Mapping) else {}
        kind = str(found.get("type", "message"))
        if kind == "reasoning":
            yield {"role": "assistant", "content": [{**found, "type": "reasoning"}]}
        elif kind != "message" and "role" not in found:
            yield {"role": "tool"}
        else:
            yield item


def prompted(entry: Entry) -> Iterator[tuple[list[Any], tuple[str, ...]]]:
    """Yield the messages of a prompt with its reply, or of a tree of messages, and the fields used."""
    asked = entry.get("prompt")
    if isinstance(asked, Mapping) and isinstance(asked.get("replies"), list):
        yield _first_branch(cast("Entry", asked)), ("prompt",)
        return
    before: list[Any] = (
        [{"role": "user", "content": asked}] if isinstance(asked, str) and asked.strip() else []
    )
    if isinstance(asked, list):
        before = cast("list[Any]", asked)
    after = answers_in(entry)
    if before and after and all(isinstance(one, Mapping) for one in before):
        yield [*before, *after], ("prompt", *(name for name in ANSWERS if name in entry))


def _first_branch(node: Entry) -> list[Any]:
    """Return the first branch of a tree whose nodes hold their replies (OpenAssistant)."""
    path: list[Any] = []
    while node:
        path.append({name: value for name, value in node.items() if name != "replies"})
        replies = node.get("replies")
        following: Any = replies[0] if isinstance(replies, list) and replies else None
        node = cast("Entry", following) if isinstance(following, Mapping) else {}
    return path


def inner_entries(entry: Entry) -> Iterator[tuple[str, str, Entry]]:
    """Yield the entries inside an entry: the field, a number where there are several, and the entry."""
    for name in WRAPPERS:
        value = entry.get(name)
        if isinstance(value, Mapping):
            # A reply beside the wrapped request belongs to it.
            outer = {key: entry[key] for key in ANSWERS if key in entry}
            yield name, "", {**outer, **cast("Entry", value)}
        elif isinstance(value, list):
            for number, one in enumerate(cast("list[object]", value), start=1):
                if isinstance(one, Mapping):
                    yield name, str(number), cast("Entry", one)


def _text(value: object, depth: int = 4) -> str:
    """Return a text, or its parts joined; empty for anything else, and for deeper nesting."""
    if isinstance(value, str):
        return value if value.strip() else ""
    if depth and isinstance(value, Mapping):
        found = cast("Entry", value)
        return _text(found.get("parts", found.get("text", found.get("content"))), depth - 1)
    if depth and isinstance(value, Sequence):
        texts = [_text(part, depth - 1) for part in cast("Sequence[object]", value)]
        return "\n".join(text for text in texts if text)
    return ""
