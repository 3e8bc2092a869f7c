"""Interpret the answers of a chat-completions server."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from personascope.errors import JudgeError
from personascope.judge.remote._client import CallError, HttpAnswer
from personascope.judge.remote._dialect import Dialect, DialectError
from personascope.judge.remote._endpoint import KEY_VARIABLE, Endpoint

RETRIED_STATUS = frozenset({408, 409, 425, 429})
FILTERED = "filtered"
"""Kind of the error for material or a reply that a content filter, or the model itself, refused."""
NO_COMPLETION = "no completion"
"""Kind of the error for an answer with status 200 that is not from a chat-completions server."""

_QUOTA = ("insufficient_quota", "billing_hard_limit", "credit balance", "insufficient credit")
_FILTER = re.compile(
    r"content[ _-]?(?:filter|management|policy)|responsible\s?ai|content moderation|\bmoderation\b|flagged"
    r"|safety (?:system|policy|filter)|usage policies",
    re.I,
)
# A blocked account is not filtered text.
_ACCOUNT = re.compile(r"\b(?:account|organi[sz]ation|api key)\b", re.I)
_FILTER_FINISH = frozenset(
    {"content_filter", "content-filter", "refusal", "safety", "blocklist", "prohibited_content", "recitation"}
)


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Reply of a model.

    Attributes:
        text: Text of the message.
        reasoning: Reasoning, where the server separates it.
        cut: Whether the limit on tokens cut the reply off.
        prompt_tokens: Number of tokens sent; None where the server did not say.
        completion_tokens: Number of tokens received, likewise.
    """

    text: str
    reasoning: str
    cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def read_reply(answer: HttpAnswer, dialect: Dialect, endpoint: Endpoint, who: str) -> ChatReply:
    """Return the model's reply, or raise the error that the answer means.

    Args:
        answer: HTTP answer of the server.
        dialect: Dialect of the request.
        endpoint: Server, which cleans its texts.
        who: Name of the model in errors, as in "judge openai:...".

    Raises:
        CallError: If this call gave no usable reply.
        DialectError: If the server asks for another form of the request.
        JudgeError: If no call to this server can succeed.
    """
    status = answer.status
    try:
        content = endpoint.clean_json(json.loads(answer.body))
        whole = True
    except (ValueError, RecursionError):
        content, whole = None, False
    entries = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    complaint = _complaint(entries, answer, endpoint)
    if status == 200 and entries.get("error") and "choices" not in entries:
        # Some gateways answer 200 and put the real status in the body.
        status = _whole(_entries(entries["error"]).get("code")) or 500
    if status == 200:
        if answer.is_page or (whole and not _is_completion(entries)):
            page = "a page for a browser" if answer.is_page else "no chat completion"
            raise CallError(NO_COMPLETION, f"HTTP 200 with {page}: {complaint}", again=True)
        return _reply(entries)
    if status == 402 or any(sign in complaint.lower() for sign in _QUOTA):
        raise JudgeError(
            f"the {who} has no quota left (HTTP {status}): {complaint}",
            hint="add credit or take another model, then run the same command again",
        )
    filtered = bool(entries) and _FILTER.search(complaint) and not _ACCOUNT.search(complaint)
    if filtered and status in (400, 403, 422, 451):
        raise CallError(FILTERED, f"HTTP {status}: {complaint}", again=False)
    if status in (401, 403):
        raise JudgeError(
            f"the {who} refuses the API key (HTTP {status}): {complaint}",
            hint=f"set {KEY_VARIABLE} to a key that this server accepts, or name the header that it wants",
        )
    if status in RETRIED_STATUS or status >= 500:
        kind = "rate limit" if status == 429 else "server error" if status >= 500 else f"HTTP {status}"
        wait = retry_after(answer.headers)
        raise CallError(kind, f"HTTP {status}: {complaint}", again=True, wait=wait)
    if status in (400, 422):
        other = dialect.without(complaint)
        if other is not None:
            raise DialectError(other)
    if status in (400, 413, 422):
        raise CallError("rejected", f"HTTP {status}: {complaint}", again=False)
    raise JudgeError(
        f"the {who} cannot be used (HTTP {status}): {complaint}",
        hint="check the model's name and the base URL, which usually ends in /v1",
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (a number or an HTTP date), or None."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if seconds < 1e9 else None


def _is_completion(entries: dict[str, object]) -> bool:
    return "message" in _choice(entries)


def _choice(entries: dict[str, object]) -> dict[str, object]:
    choices = entries.get("choices")
    return _entries(cast("list[object]", choices)[0]) if isinstance(choices, list) and choices else {}


def _reply(entries: dict[str, object]) -> ChatReply:
    usage = _entries(entries.get("usage"))
    if not _is_completion(entries):
        raise CallError("malformed", "the server's answer broke off", again=True)
    choice = _choice(entries)
    message = _entries(choice.get("message"))
    finish = str(choice.get("finish_reason") or "").lower()
    refusal = message.get("refusal")
    if finish in _FILTER_FINISH or (isinstance(refusal, str) and refusal.strip()):
        told = " ".join(refusal.split())[:200] if isinstance(refusal, str) else f"finish_reason {finish}"
        raise CallError(FILTERED, told, again=False)
    return ChatReply(
        text=_text(message.get("content")),
        reasoning=_text(message.get("reasoning_content")) or _text(message.get("reasoning")),
        cut=finish in ("length", "max_tokens"),
        prompt_tokens=_whole(usage.get("prompt_tokens")),
        completion_tokens=_whole(usage.get("completion_tokens")),
    )


_SAID = ("text", "output_text")  # kinds of parts that are the message; others are reasoning, images, calls


def _text(content: object) -> str:
    """Return a message's text, or the texts of its parts joined."""
    if isinstance(content, list):
        parts = [_entries(part) for part in cast("list[object]", content)]
        told = [part.get("text") for part in parts if part.get("type", "text") in _SAID]
        return "".join(text for text in told if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _complaint(entries: dict[str, object], answer: HttpAnswer, endpoint: Endpoint) -> str:
    error = entries.get("error", entries.get("detail", entries.get("message")))
    if isinstance(error, dict):
        fields = _entries(cast("object", error))
        inner = _entries(fields.get("innererror")).get("code")
        parts = [*(fields.get(key) for key in ("message", "code", "type", "param")), inner]
        text = " | ".join(str(part) for part in parts if part not in (None, ""))
    elif error is not None:
        text = json.dumps(error) if not isinstance(error, str) else error
    else:
        text = answer.body[: 2**16].decode(errors="replace")
    return " ".join(endpoint.clean(text).split())[:300] or endpoint.clean(answer.phrase) or "no explanation"


def _entries(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
