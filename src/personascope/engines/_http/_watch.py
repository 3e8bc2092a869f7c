"""One HTTP request on its way through a server: its rules, its plan, its times, and its line in the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from personascope.engines._http._policy import Rules
from personascope.interventions import Plan

SCOPE = "personascope.request"
"""Key of the watch in the ASGI scope of a request."""

log = logging.getLogger("personascope.access")


@dataclass(slots=True, eq=False)
class RequestWatch:
    """What is known of a request.

    Attributes:
        rules: Rules of its key.
        method: HTTP method.
        path: Path.
        client: Address of the client.
        started: Time at which it came, in seconds of `time.monotonic`.
        status: HTTP status; 499 if the client went before the answer began.
        plan: Digest of its plan.
        plan_name: Name of its plan.
        first: Time at which its first text was sent.
        prompt_tokens: Number of tokens of the prompt.
        reply_tokens: Number of tokens of the reply.
        told: The field of the reply.
        error: Reason for which it was refused or failed within a stream.
        texts: Texts of request and reply, if they are logged.
    """

    rules: Rules = field(default_factory=Rules)
    method: str = ""
    path: str = ""
    client: str = ""
    started: float = field(default_factory=time.monotonic)
    status: int = 499
    plan: str | None = None
    plan_name: str | None = None
    first: float | None = None
    prompt_tokens: int = 0
    reply_tokens: int = 0
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""
    texts: dict[str, Any] | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens of prompt and reply."""
        return self.prompt_tokens + self.reply_tokens

    def runs(self, plan: Plan | None) -> None:
        """Note the plan under which the request runs."""
        self.plan = None if plan is None else plan.digest
        self.plan_name = None if plan is None else plan.name

    def text_sent(self) -> None:
        """Note that text is sent; the first call counts."""
        if self.first is None:
            self.first = time.monotonic()

    def replied(self, usage: Mapping[str, Any] | None, told: Mapping[str, Any] | None) -> None:
        """Note the tokens of a reply, and its field."""
        if usage:
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.reply_tokens = int(usage.get("completion_tokens") or 0)
        self.told = told or {}

    def say(self, text: str) -> None:
        """Note a part of the reply's text, if texts are logged."""
        if self.texts is not None:
            self.texts["reply"] = self.texts.get("reply", "") + text

    def write(self) -> None:
        """Write the request's line to the log: a JSON object, without texts unless they are asked for."""
        now = time.monotonic()
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": self.method,
            "path": self.path[:200],
            "client": self.client,
            "key": self.rules.name or None,
            "status": self.status,
            "seconds": round(now - self.started, 4),
        }
        if self.first is not None:
            line["first_text_seconds"] = round(self.first - self.started, 4)
        if self.plan is not None:
            line |= {"plan": self.plan, "plan_name": self.plan_name}
        if self.tokens:
            line |= {"prompt_tokens": self.prompt_tokens, "reply_tokens": self.reply_tokens}
        for part in ("answer", "thinking"):
            if told := self.told.get(part):
                line[f"{part}_position"] = told.get("position")
                line[f"{part}_before"] = told.get("before")
        if firing := self.told.get("firing"):
            line |= {"firing_share": firing.get("share"), "max_moved": firing.get("max_moved")}
        if self.error:
            line["error"] = self.error[:300]
        if self.texts:
            line["texts"] = self.texts
        # Escaped to ASCII, so that no text of a client can end a line or move a terminal's cursor.
        log.info("%s", json.dumps(line, default=str))


def watch_of(scope: Mapping[str, Any]) -> RequestWatch | None:
    """Return the watch of a request; None if no guard stands before the application."""
    return scope.get(SCOPE)
