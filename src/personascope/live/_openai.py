"""Replies and chunks in the form of OpenAI's API."""

from __future__ import annotations

import json
from typing import Any

from personascope.engines import Completion
from personascope.live._reply import FIELD, Piece, Reply


def head(reply: Reply, *, chunk: bool) -> dict[str, Any]:
    """Return the fields that a reply and all of its chunks have in common."""
    kind = "chat.completion" if reply.asked.chat else "text_completion"
    if chunk and reply.asked.chat:
        kind += ".chunk"
    return {"id": reply.id, "object": kind, "created": reply.created, "model": reply.asked.model}


def whole(
    reply: Reply, completion: Completion, pieces: list[Piece], totals: dict[str, Any]
) -> dict[str, Any]:
    """Return the body of a reply that is not streamed."""
    content = "".join(piece.content for piece in pieces)
    reasoning = "".join(piece.reasoning for piece in pieces)
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": completion.finish_reason}
    if reply.asked.chat:
        message: dict[str, Any] = {"role": "assistant", "content": content}
        choice["message"] = message | ({"reasoning": reasoning} if reasoning else {})
    else:
        choice["text"] = content
    told = dict(totals)
    if reply.asked.probes is not None:
        # A reply that is not streamed has all projections at once.
        columns = [piece.told["projections"] for piece in pieces if "projections" in piece.told]
        told["first"] = 0
        told["projections"] = {
            name: [value for column in columns for value in column[name]] for name in reply.asked.probes.names
        }
    if reply.asked.reading.tokens:
        told["tokens"] = [token for piece in pieces for token in piece.told.get("tokens", ())]
    value = {**head(reply, chunk=False), "choices": [choice], "usage": reply.usage(completion)}
    return value | _field(reply, told)


def first_chunk(reply: Reply) -> dict[str, Any]:
    """Return the chunk that opens a chat reply."""
    return _chunk(reply, {"role": "assistant", "content": ""}, None)


def text_chunk(reply: Reply, piece: Piece) -> dict[str, Any]:
    """Return the chunk with a piece of a reply."""
    delta: dict[str, Any] = {}
    if piece.reasoning:
        delta["reasoning"] = piece.reasoning
    if piece.content or not piece.reasoning:
        delta["content"] = piece.content
    told = {FIELD: {"index": 0, **piece.told}} if piece.told else {}
    return _chunk(reply, delta, None) | told


def end_chunks(reply: Reply, completion: Completion, totals: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the chunks after the text: finish reason, usage if it was asked for, and the totals.

    The totals have one empty choice, because clients commonly read ``choices[0]`` of every chunk. A client
    that asks for usage gets none, because the chunk with usage has none either.
    """
    chunks = [_chunk(reply, {}, completion.finish_reason)]
    usage = reply.asked.usage
    if usage:
        chunks.append(
            {**head(reply, chunk=True), "choices": [], "usage": reply.usage(completion)},
        )
    told = dict(totals)
    if "projections" in told:
        # They were in the last piece.
        told["projections"] = {name: [] for name in told["projections"]}
        told["first"] = told["projected_tokens"]
    if field := _field(reply, told):
        last = _chunk(reply, {"content": ""}, None)
        chunks.append(last | ({"choices": []} if usage else {}) | field)
    return chunks


def encode(value: Any) -> bytes:
    """Return a value as JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate cannot be encoded, and JSON may escape it.
    return text.encode("utf-8", "backslashreplace")


def event(value: Any) -> bytes:
    """Return a server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _field(reply: Reply, told: dict[str, Any]) -> dict[str, Any]:
    """Return the field, unless there is nothing to tell a client that did not ask for it."""
    return {} if reply.asked.is_plain else {FIELD: told}


def _chunk(reply: Reply, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0}
    choice |= {"delta": delta} if reply.asked.chat else {"text": delta.get("content", "")}
    choice |= {"logprobs": None, "finish_reason": reason}
    return {**head(reply, chunk=True), "choices": [choice]}
