"""One call to a chat-completions server: what is sent, and what each kind of answer means."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast

import httpx

from personascope.chat import Message
from personascope.errors import JudgeError
from personascope.judge._rubric import Rubric

RETRIED_STATUS = frozenset({408, 409, 425, 429})
_QUOTA = ("insufficient_quota", "billing_hard_limit", "credit balance", "insufficient credit")
_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")


class CallError(Exception):
    """A call that gave no score.

    Attributes:
        kind: What `JudgeStats.errors` counts it under.
        again: Whether the same call may succeed later.
        wait: Seconds that the server asked to wait before that, or None.
    """

    def __init__(self, kind: str, message: str, *, again: bool, wait: float | None = None) -> None:
        """Keep the parts."""
        super().__init__(message)
        self.kind = kind
        self.again = again
        self.wait = wait


class DialectError(Exception):
    """The server does not take part of the request's form; `dialect` is the next one to try."""

    def __init__(self, dialect: Dialect) -> None:
        """Keep the next dialect."""
        super().__init__(str(dialect))
        self.dialect = dialect


@dataclass(frozen=True, slots=True)
class Dialect:
    """Which optional parts of the protocol a server takes.

    Attributes:
        format: How structured output is asked for.
        limit: Name of the field that limits the reply's tokens.
        temperature: Whether a temperature may be given; some reasoning models refuse it.
    """

    format: Literal["json_schema", "json_object", "text"] = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def body(
        self, model: str, messages: Sequence[Message], reply_tokens: int, rubric: Rubric
    ) -> dict[str, object]:
        """Return the JSON body of a request for an answer by a rubric."""
        body: dict[str, object] = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            self.limit: reply_tokens,
        }
        if self.temperature:
            body["temperature"] = 0
        if self.format == "json_schema":
            schema = {"name": rubric.key, "strict": True, "schema": rubric.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def without(self, complaint: str) -> Dialect | None:
        """Return the dialect to try after a server's complaint, or None if it is about something else."""
        complaint = complaint.lower()
        too_long = "context length" in complaint or "too large" in complaint
        if self.limit == "max_tokens" and "max_completion_tokens" in complaint and not too_long:
            return replace(self, limit="max_completion_tokens")
        if self.format != "text" and any(word in complaint for word in _FORMAT):
            return replace(self, format="json_object" if self.format == "json_schema" else "text")
        if self.temperature and "temperature" in complaint:
            return replace(self, temperature=False)
        return None


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a model answered, with the tokens that it took where the server said so."""

    text: str
    cut: bool
    prompt_tokens: int | None
    completion_tokens: int | None


def read_reply(response: httpx.Response, dialect: Dialect, name: str) -> JudgeReply:
    """Return the model's reply, or raise what became of the call.

    Raises:
        CallError: If this call gave nothing.
        DialectError: If the server asks for another form of the request.
        JudgeError: If no call to this server can succeed.
    """
    status = response.status_code
    try:
        content = json.loads(response.content)
    except (ValueError, RecursionError):
        content = None
    entries = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    complaint = _complaint(entries, response)
    if status == 200 and "error" in entries and "choices" not in entries:
        # Some gateways answer 200 and put the real status in the body.
        status = _whole(_entries(entries["error"]).get("code")) or 500
    if status == 200:
        return _reply(entries)
    if status == 402 or any(sign in complaint.lower() for sign in _QUOTA):
        raise JudgeError(
            f"the judge {name} has no quota left (HTTP {status}): {complaint}",
            hint="add credit or take another judge, then run the same command again",
        )
    if status in (401, 403):
        raise JudgeError(
            f"the judge {name} refuses the API key (HTTP {status}): {complaint}",
            hint="set OPENAI_API_KEY to a key that this server accepts",
        )
    if status in RETRIED_STATUS or status >= 500:
        kind = "rate limit" if status == 429 else "server error" if status >= 500 else f"HTTP {status}"
        wait = retry_after(response.headers)
        raise CallError(kind, f"HTTP {status}: {complaint}", again=True, wait=wait)
    if status in (400, 422):
        other = dialect.without(complaint)
        if other is not None:
            raise DialectError(other)
    if status in (400, 413, 422):
        raise CallError("rejected", f"HTTP {status}: {complaint}", again=False)
    raise JudgeError(
        f"the judge {name} cannot be used (HTTP {status}): {complaint}",
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


def _reply(entries: dict[str, object]) -> JudgeReply:
    usage = _entries(entries.get("usage"))
    choices = entries.get("choices")
    choice = _entries(cast("list[object]", choices)[0]) if isinstance(choices, list) and choices else {}
    message = _entries(choice.get("message"))
    content = message.get("content")
    if isinstance(content, list):
        parts = [_entries(part).get("text") for part in cast("list[object]", content)]
        content = "".join(part for part in parts if isinstance(part, str))
    cut = choice.get("finish_reason") == "length"
    if not isinstance(content, str) and not cut:
        if isinstance(message.get("refusal"), str):
            content = ""
        else:
            raise CallError("malformed", "the server's answer is no chat completion", again=True)
    return JudgeReply(
        text=content if isinstance(content, str) else "",
        cut=cut,
        prompt_tokens=_whole(usage.get("prompt_tokens")),
        completion_tokens=_whole(usage.get("completion_tokens")),
    )


def _complaint(entries: dict[str, object], response: httpx.Response) -> str:
    error = entries.get("error", entries.get("detail", entries.get("message")))
    if isinstance(error, dict):
        fields = _entries(cast("object", error))
        parts = [fields.get(key) for key in ("message", "code", "type", "param")]
        text = " | ".join(str(part) for part in parts if part not in (None, ""))
    elif error is not None:
        text = json.dumps(error) if not isinstance(error, str) else error
    else:
        text = response.text
    return " ".join(text.split())[:300] or response.reason_phrase or "no explanation"


def _entries(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
