"""Build chat-completions requests from the optional parts that a server accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from personascope.chat import Message
from personascope.judge._rubric import Rubric
from personascope.text import replace_surrogates

_FORMAT = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")


class DialectError(Exception):
    """The server rejects a part of the request's form; `dialect` is the next one to try."""

    def __init__(self, dialect: Dialect) -> None:
        """Store the next dialect."""
        super().__init__(str(dialect))
        self.dialect = dialect


@dataclass(frozen=True, slots=True)
class Dialect:
    """Optional parts of the protocol that a server accepts.

    Attributes:
        format: Way of asking for structured output, used only with a rubric.
        limit: Name of the field that limits the reply's tokens.
        temperature: Whether a temperature may be given; some reasoning models reject it.
    """

    format: Literal["json_schema", "json_object", "text"] = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def body(
        self,
        model: str,
        messages: Sequence[Message],
        reply_tokens: int,
        rubric: Rubric | None = None,
        *,
        temperature: float = 0,
        more: Mapping[str, object] | None = None,
    ) -> dict[str, object]:
        """Return the JSON body of a request, for an answer by a rubric if one is given.

        Args:
            model: Name of the model on the server.
            messages: Messages of the conversation.
            reply_tokens: Maximum number of tokens of the reply.
            rubric: Rubric whose schema the reply is to follow.
            temperature: Sampling temperature, where the server accepts one.
            more: Further fields, such as a seed.
        """
        body: dict[str, object] = {
            "model": model,
            "messages": [
                {"role": message.role, "content": replace_surrogates(message.content)} for message in messages
            ],
            self.limit: reply_tokens,
            **(more or {}),
        }
        if self.temperature:
            body["temperature"] = temperature
        if rubric is not None and self.format == "json_schema":
            schema = {"name": rubric.key, "strict": True, "schema": rubric.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif rubric is not None and self.format == "json_object":
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
