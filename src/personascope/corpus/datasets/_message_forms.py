"""Rewrite messages of other programs as mappings with a role and a content, and find their reasoning.

`_message_fields` finds where an entry holds its messages; this file knows how one message may look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

Entry = Mapping[str, Any]

_LANGCHAIN = re.compile(r"(\w+?)Message(?:Chunk)?")
_TYPES = ("human", "user", "ai", "assistant", "system", "tool", "function")
_THOUGHT_ROLES = ("thinking", "thought", "reasoning")
_THOUGHT_KIND = re.compile("reasoning|think")
_THOUGHT_KEY = re.compile(r"(?:reasoning|thinking|thoughts?)_?(?:content|text|details|blocks|summary)?")
_TOOL_PARTS = ("tool_result", "functionResponse", "function_response", "toolResult")
_NO_TEXT = (
    *_TOOL_PARTS, "functionCall", "function_call", "toolUse", "executableCode", "codeExecutionResult",
    "inlineData", "inline_data", "fileData", "file_data", "image", "audio", "video", "document", "cachePoint",
    "guardContent",
)  # fmt: skip
_DEPTH = 6


def plain(message: object) -> object:
    """Return a message with ``role`` and ``content`` if it is of a known other form, else as it is.

    Known are the forms of LangChain, Claude Code, Grok, LM Studio, SillyTavern, of harmony's channels, and
    messages that are reasoning or the results of tools as a whole.
    """
    for _ in range(_DEPTH):
        if not isinstance(message, Mapping):
            return message
        found = _unwrapped(cast("Entry", message))
        if found is None:
            return _whole(cast("Entry", message))
        message = found
    return message


def _unwrapped(message: Entry) -> Entry | None:
    """Return the message that a known form wraps; None if it is none of them."""
    kind, inner = message.get("type"), message.get("message")
    named = any(message.get(name) is not None for name in ("role", "from", "sender"))
    if message.get("lc") is not None and isinstance(message.get("kwargs"), Mapping):
        ids = message.get("id")
        name = _LANGCHAIN.match(str(ids[-1])) if isinstance(ids, list) and ids else None
        inside: Entry = message["kwargs"]
        role = inside.get("role") if name is None or name[1] == "Chat" else name[1].lower()
        return {**_mapping(inside.get("additional_kwargs")), **inside, "role": role, "type": "message"}
    if named:
        return None
    if kind in _TYPES and isinstance(inner, Mapping):
        return {"role": kind, **inner}
    if kind in _TYPES and isinstance(message.get("data"), Mapping):
        data: Entry = message["data"]
        return {**_mapping(data.get("additional_kwargs")), **data, "role": kind, "type": "message"}
    if kind in _TYPES and "content" in message:
        return {**message, "role": kind, "type": "message"}
    inner = message.get("response")
    if isinstance(inner, Mapping) and inner.get("sender") is not None:
        return cast("Entry", inner)
    if isinstance(message.get("versions"), list):
        return _version(message)
    if isinstance(message.get("is_user"), bool) and isinstance(message.get("mes"), str):
        # SillyTavern marks what it does not send to the model as "is_system".
        role = "tool" if message.get("is_system") is True else "user" if message["is_user"] else "assistant"
        extra = _mapping(message.get("extra"))
        return {"role": role, "content": message["mes"], "reasoning": extra.get("reasoning")}
    return None


def _version(message: Entry) -> Entry | None:
    """Return the chosen version of a message of LM Studio."""
    versions: list[Any] = message["versions"]
    place = message.get("currentlySelected", 0)
    if not isinstance(place, int) or not 0 <= place < len(versions):
        return None
    chosen = _mapping(versions[place])
    if not isinstance(chosen.get("steps"), list):
        return chosen or None
    parts: list[Any] = []
    for step in map(_mapping, chosen["steps"]):
        thinks = _mapping(step.get("style")).get("type") == "thinking"
        inside: list[Any] = step["content"] if isinstance(step.get("content"), list) else []
        parts += [{**_mapping(part), "type": "thinking"} if thinks else part for part in inside]
    return {"role": chosen.get("role"), "content": parts}


def _whole(message: Entry) -> Entry:
    """Return a message whose whole content is reasoning, or a tool's, as one that says so."""
    role = next((message[n] for n in ("role", "from", "sender") if message.get(n) is not None), None)
    name = role.strip().lower() if isinstance(role, str) else ""
    if name in _THOUGHT_ROLES or message.get("channel") == "analysis" or message.get("isThought") is True:
        text = next((message[n] for n in ("content", "text", "parts") if message.get(n) is not None), "")
        parts = cast("list[Any]", text) if isinstance(text, list) else [text]
        inside = [{"type": "reasoning", "text": text_of(part)} for part in parts]
        return {"role": "assistant", "content": inside}
    if message.get("channel") == "commentary" and message.get("recipient"):
        return {"role": "tool"}
    parts = message.get("content", message.get("parts"))
    if isinstance(parts, list) and parts and all(map(_is_tools, cast("list[object]", parts))):
        return {"role": "tool"}
    return message


def _is_tools(part: object) -> bool:
    found = _mapping(part)
    return found.get("type") in _TOOL_PARTS or any(name in found for name in _TOOL_PARTS)


def is_thought(part: object) -> bool:
    """Return whether a part of a message is reasoning, by its type or a mark."""
    found = _mapping(part)
    return (
        bool(_THOUGHT_KIND.search(str(found.get("type", ""))))
        or found.get("thought") is True
        or found.get("isThought") is True
        or "reasoningContent" in found
    )


def is_no_text(part: object) -> bool:
    """Return whether a part of a message is known to hold no text, such as an image or a tool's call."""
    found = _mapping(part)
    return "text" not in found and any(name in found for name in _NO_TEXT)


def text_of(part: object, depth: int = _DEPTH) -> str:
    """Return the text of a part of reasoning, whichever key holds it; "" if it is redacted."""
    if isinstance(part, str):
        return part
    if depth and isinstance(part, list):
        return "\n".join(filter(None, (text_of(one, depth - 1) for one in cast("list[object]", part))))
    names = (
        "thinking",
        "reasoning",
        "think",
        "text",
        "summary",
        "content",
        "reasoningContent",
        "reasoningText",
    )
    found = _mapping(part)
    held = next((found[name] for name in names if found.get(name)), "")
    return text_of(held, depth - 1) if depth else ""


def reasoning_of(message: Mapping[Any, Any]) -> list[str]:
    """Return the texts in those fields of a message whose names say that they hold its reasoning."""
    found: list[str] = []
    for key, value in message.items():
        name = re.sub("(?<=[a-z])(?=[A-Z])", "_", str(key)).lower()
        if _THOUGHT_KEY.fullmatch(name) and isinstance(value, (str, list, Mapping)):
            text = text_of(cast("object", value))
            found += [text] if text.strip() else []
    return found


def in_turns(messages: Sequence[object]) -> list[Any]:
    """Return texts that alternate between user and assistant, alone or in pairs, as messages.

    Anything else is returned as it is.
    """
    flat: list[object] = []
    for one in messages:
        pair = cast("list[object]", one) if isinstance(one, list) else []
        if len(pair) == 2 and all(text is None or isinstance(text, str) for text in pair):
            flat += pair
        else:
            flat.append(one)
    if len(flat) < 2 or not all(text is None or isinstance(text, str) for text in flat):
        return list(messages)
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(flat) if text]


def _mapping(value: object) -> Entry:
    return cast("Entry", value) if isinstance(value, Mapping) else {}
