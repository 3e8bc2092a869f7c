"""Find the conversations in records of other programs: lists, trees of branches, pairs, logged requests.

The result is always a list of messages in order, each a mapping that names its speaker and holds its text
(`_shapes`). Whatever else a program writes is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, cast

from personascope.corpus.datasets._message_forms import in_turns, plain
from personascope.corpus.datasets._nested_fields import (
    ANSWERS,
    SYSTEMS,
    WRAPPERS,
    answers_in,
    inner_entries,
    prompted,
    response_items,
    system_in,
)
from personascope.corpus.datasets._shapes import content

MESSAGE_FIELDS = ("messages", "conversation", "conversations", "chat_messages", "contents")
"""Fields with a list of messages, as in OpenAI, LMSYS and the released files, ShareGPT, Claude, Gemini."""

OTHER_FIELDS = (
    "chat_history", "chatHistory", "target_messages", "dialogue", "dialog", "turns", "history", "chunks",
    "internal", "data", "responses",
)  # fmt: skip
"""Fields with a list of messages, as in Cohere, Petri, AI Studio, text-generation-webui, UltraChat, Grok."""

PAIRS = (("conversation_a", "conversation_b"), ("chosen", "rejected"))
"""Fields with two conversations of one entry, as in model arenas and preference sets."""

COLUMNS = (
    *MESSAGE_FIELDS, *OTHER_FIELDS, *(name for pair in PAIRS for name in pair), *SYSTEMS, *ANSWERS, *WRAPPERS,
    "mapping", "current_node", "chat", "conv", "options", "input", "request", "prompt", "id",
    "conversation_id", "uuid",
)  # fmt: skip
"""All fields that are read."""

PARENTS = ("parentId", "parentMessageId", "parent")
"""Fields of a tree's node that name its parent."""

Entry = Mapping[str, Any]
_NESTED = 3


@dataclass(frozen=True, slots=True)
class Held:
    """One conversation of an entry.

    Attributes:
        messages: Messages in order, unchecked.
        system: System prompt beside the messages; empty for none.
        fields: Fields of the entry that it was taken from.
        part: Name of this conversation among several of the entry; empty where there is one.
        branched: Number of messages of other branches, which are left out.
    """

    messages: list[Any]
    system: str = ""
    fields: tuple[str, ...] = ()
    part: str = ""
    branched: int = 0

    @property
    def said(self) -> list[Any]:
        """Messages, with the system prompt first unless one of the first two says the same."""
        messages = [plain(one) for one in self.messages]
        said = [content(cast("Mapping[object, object]", _mapping(one))) for one in messages[:2]]
        if not self.system or self.system in said:
            return messages
        return [{"role": "system", "content": self.system}, *messages]


def conversations_of(entry: Mapping[Any, Any]) -> list[Held]:
    """Return the conversations of an entry; empty if its form is unknown."""
    return _conversations_of(entry, _NESTED)


def _conversations_of(entry: Entry, depth: int) -> list[Held]:
    for find in (_chatgpt, _open_webui, _llama_cpp, _exchange, _responses, _pair, _plain, _prompted):
        found = find(entry)
        if found:
            return found
    return _inside(entry, depth - 1) if depth else []


def _inside(entry: Entry, depth: int) -> list[Held]:
    """Read the conversations one level down: a request's body, the list of an export."""
    every: list[Held] = []
    for name, part, inner in inner_entries(entry):
        for held in _conversations_of(inner, depth):
            named = "/".join(filter(None, (part, held.part)))
            every.append(replace(held, fields=(name,), part=named, system=held.system or system_in(entry)))
    return [replace(every[0], part="")] if len(every) == 1 else every


def _prompted(entry: Entry) -> list[Held]:
    return [Held(messages, system_in(entry), used) for messages, used in prompted(entry)]


def _chatgpt(entry: Entry) -> list[Held]:
    """Read a tree under ``mapping``, whose branch ends at ``current_node``."""
    nodes = _mapping(entry.get("mapping"))
    if not any("message" in _mapping(node) for node in nodes.values()):
        return []
    path = _branch({key: _mapping(node) for key, node in nodes.items()}, entry.get("current_node"))
    said = [_chatgpt_message(_mapping(node.get("message"))) for node in path]
    others = sum(_mapping(_mapping(node).get("message")) != {} for node in nodes.values())
    kept = [message for message in said if message is not None]
    whole = others - sum(_mapping(node.get("message")) != {} for node in path)
    return [Held(kept, system_in(entry), ("mapping", "current_node"), branched=max(0, whole))]


def _chatgpt_message(message: Entry) -> Entry | None:
    if not message:
        return None
    if _is_list(message.get("fragments")):
        return _fragments(_list(message["fragments"]))
    role = _mapping(message.get("author")).get("role")
    content = _mapping(message.get("content"))
    kind = str(content.get("content_type", ""))
    if kind in ("thoughts", "reasoning_recap"):
        return {"role": role, "content": [{"type": "reasoning"}]}
    if role == "tool" or message.get("recipient", "all") not in ("all", None) or kind == "code":
        return {"role": "tool"}
    if kind == "user_editable_context":
        parts = [content.get("user_profile"), content.get("user_instructions")]
        return {"role": "system", "content": "\n\n".join(part for part in parts if isinstance(part, str))}
    parts = content.get("parts")
    parts = [content.get("text")] if parts is None else parts
    if role == "system" and not any(isinstance(part, str) and part.strip() for part in _list(parts)):
        return None
    return {"role": role, "content": [_image(part) for part in _list(parts)]}


def _fragments(fragments: list[Any]) -> Entry:
    """Read a message of DeepSeek's export, which says in each fragment what it is."""
    kinds = [str(_mapping(one).get("type")) for one in fragments]
    texts = [
        {"type": "reasoning" if kind == "THINK" else "text", "text": str(_mapping(one).get("content") or "")}
        for kind, one in zip(kinds, fragments, strict=True)
        if kind in ("REQUEST", "RESPONSE", "THINK")
    ]
    return {"role": "user" if "REQUEST" in kinds else "assistant" if texts else "tool", "content": texts}


def _image(part: Any) -> Any:
    if isinstance(part, Mapping) and "text" not in part:
        return {"type": str(cast("Entry", part).get("content_type", "part"))}
    return cast("object", part)


def _open_webui(entry: Entry) -> list[Held]:
    """Read a tree, or else a list, under ``chat``."""
    chat = _mapping(entry.get("chat"))
    history = _mapping(chat.get("history"))
    nodes = {key: _mapping(node) for key, node in _mapping(history.get("messages")).items()}
    system = system_in(_mapping(chat.get("params"))) or system_in(chat)
    if nodes:
        path = _branch(nodes, history.get("currentId"))
        return [Held(list(path), system, ("chat",), branched=len(nodes) - len(path))]
    return [Held(_list(chat["messages"]), system, ("chat",))] if _is_list(chat.get("messages")) else []


def _llama_cpp(entry: Entry) -> list[Held]:
    """Read a tree stored as a list under ``messages``, whose branch ends at ``conv.currNode``."""
    conv, listed = _mapping(entry.get("conv")), entry.get("messages")
    if not conv or not _is_list(listed):
        return []
    every = [_mapping(node) for node in _list(listed)]
    nodes = {str(node.get("id")): node for node in every if node.get("type") != "root"}
    path = _branch(nodes, conv.get("currNode"))
    return [Held(list(path), system_in(entry), ("conv", "messages"), branched=len(nodes) - len(path))]


def _exchange(entry: Entry) -> list[Held]:
    """Read a request to a model and its response, as proxies log them."""
    request, response = _mapping(entry.get("request")), _mapping(entry.get("response"))
    if not request or not response or "mapping" in request:
        return []
    # Other forms are not tried, because a request holds no request and nesting could be endless.
    asked = _responses(request) or _plain(request)
    if not asked:
        return []
    answer = answers_in(response) or ([response] if response.get("content") is not None else [])
    return [Held([*asked[0].messages, *answer], asked[0].system, ("request", "response"))]


def _responses(entry: Entry) -> list[Held]:
    """Read the Responses API of OpenAI: ``instructions``, ``input``, ``output``."""
    asked, output = entry.get("input"), entry.get("output")
    # A text under "output" alone is another form: an instruction with its input and its answer.
    answered = "instructions" in entry or _is_list(output)
    if not _is_list(asked) and not (isinstance(asked, str) and answered):
        return []
    first = (
        [{"role": "user", "content": asked}] if isinstance(asked, str) else list(response_items(_list(asked)))
    )
    given = entry.get("instructions")
    system = given if isinstance(given, str) else system_in(entry)
    answer = (
        [{"role": "assistant", "content": output}]
        if isinstance(output, str)
        else answers_in({"output": output})
    )
    if not all(isinstance(one, Mapping) for one in first):
        return []
    return [Held([*first, *answer], system, ("instructions", "input", "output"))]


def _pair(entry: Entry) -> list[Held]:
    """Read two conversations, or two replies to one prompt."""
    asked = entry.get("prompt")
    before: list[Any] = [{"role": "user", "content": asked}] if isinstance(asked, str) else _list(asked)
    for names in PAIRS:
        if all(isinstance(entry.get(name), (list, str)) and entry.get(name) for name in names):
            sides = {name: _side(entry[name], before) for name in names}
            if all(sides.values()):
                used = (*names, "prompt") if before else names
                return [
                    Held(side, system_in(entry), used, part=name.removeprefix("conversation_"))
                    for name, side in sides.items()
                ]
    return []


def _side(value: Any, before: list[Any]) -> list[Any]:
    """Return one side of a pair with the prompt before it, unless it begins with a message of the user."""
    if isinstance(value, str):
        return [*before, {"role": "assistant", "content": value}] if before else []
    messages = _list(value)
    begun = any(_role(one) in ("user", "human") for one in messages)
    return messages if begun else [*before, *messages]


def _role(message: object) -> str:
    return str(_mapping(plain(message)).get("role", "")).lower()


def _plain(entry: Entry) -> list[Held]:
    """Read a list of messages under one of `MESSAGE_FIELDS` or `OTHER_FIELDS`, and a reply beside it."""
    holder = next((name for name in MESSAGE_FIELDS if isinstance(entry.get(name), list)), None)
    if holder is not None and any(_is_entry(one) for one in entry[holder]):
        return []
    if holder is None:
        holder = next((name for name in OTHER_FIELDS if _are_messages(entry.get(name))), None)
    if holder is None:
        return []
    listed = in_turns(_list(entry[holder]))
    flat, branched = _unbranched(listed)
    used = [holder, *(name for name in SYSTEMS if name in entry and system_in({name: entry[name]}))]
    if flat and _role(flat[-1]) in ("user", "human"):
        flat = [*flat, *answers_in(entry)]
        used += [name for name in ANSWERS if len(flat) > len(listed) and name in entry]
    return [Held(flat, system_in(entry), tuple(used), branched=branched)]


def _is_entry(value: object) -> bool:
    """Return whether an item of a list is a conversation of its own."""
    found = _mapping(value)
    return not _role(value) and any(_is_list(found.get(name)) for name in ("messages", "responses"))


def _are_messages(value: object) -> bool:
    listed = in_turns(_list(value))
    return bool(listed) and all(_role(one) or "sender" in _mapping(plain(one)) for one in listed)


def _unbranched(messages: list[Any]) -> tuple[list[Any], int]:
    """Return the last branch of messages that hold or name each other (LibreChat), and the number left out.

    Messages that do neither are returned as they are.
    """
    flat: list[Entry] = []
    waiting = [(message, "") for message in reversed(messages)]
    while waiting:
        message, parent = waiting.pop()
        found = _mapping(message)
        children = _list(found.get("children")) if found.get("messageId") is not None else []
        flat.append({**found, "parentMessageId": parent} if parent else found)
        waiting += [(child, str(found.get("messageId"))) for child in reversed(children)]
    nodes = {str(one["messageId"]): one for one in flat if one.get("messageId") is not None}
    if len(nodes) < len(messages) or not nodes or not any(one.get("parentMessageId") for one in flat):
        return messages, 0
    path = _branch(nodes, None)
    return list(path), len(nodes) - len(path)


def _branch(nodes: dict[str, Entry], end: object) -> list[Entry]:
    """Return the nodes of a tree from its root to ``end``, or to the last node if ``end`` is not there."""
    at = str(end) if end is not None and str(end) in nodes else next(reversed(nodes), "")
    path: list[Entry] = []
    seen: set[str] = set()
    while at in nodes and at not in seen:
        seen.add(at)
        path.append(nodes[at])
        parent = next((nodes[at][name] for name in PARENTS if nodes[at].get(name) is not None), None)
        at = str(parent)
    return path[::-1]


def _mapping(value: object) -> Entry:
    return cast("Entry", value) if isinstance(value, Mapping) else {}


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
