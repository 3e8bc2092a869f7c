"""The guard before an application: key, limits, size, and one line and one count for each request."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from personascope.engines._http._access import NO_MODEL, Access
from personascope.engines._http._answers import failure_of
from personascope.engines._http._errors import StatusError
from personascope.engines._http._field import CHAT, OURS, TEXT
from personascope.engines._http._store_routes import UPLOAD_LIMIT
from personascope.engines._http._watch import SCOPE, RequestWatch

Receive = Callable[[], Awaitable[Any]]


class Guard:
    """ASGI middleware that refuses what the policy does not allow, and watches what it lets through."""

    def __init__(self, app: Any, access: Access) -> None:
        """Wrap an application."""
        self.app = app
        self.access = access

    async def __call__(self, scope: Any, receive: Receive, send: Any) -> None:
        """Check a request, and pass it on with its body read if it is not refused."""
        access = self.access
        if scope["type"] == "websocket" and (access.policy.keys or access.planned(access.policy.rules)):
            # Such a connection would run the model without key, limits and plan.
            await receive()
            return await send({"type": "websocket.close", "code": 1008, "reason": "not under this policy"})
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if scope["type"] != "http" or scope["method"] == "OPTIONS" or access.is_open(path):
            return await self.app(scope, receive, send)
        client = scope.get("client") or ("",)
        watch = RequestWatch(method=scope["method"], path=path, client=str(client[0]))
        scope[SCOPE] = watch

        async def tell(message: Any) -> None:
            if message["type"] == "http.response.start":
                watch.status = message["status"]
            await send(message)

        runs = watch.method == "POST" and not path.startswith(f"{OURS}/") and path not in NO_MODEL
        began = False
        try:
            try:
                watch.rules = self._rules(dict(scope["headers"]))
                self._check_route(watch, runs)
                if runs:
                    access.limiter.enter(watch.rules)
                    began = True
                    access.metrics.begun()
                if watch.method == "POST":
                    receive = await self._read(scope, receive, watch)
            except StatusError as error:
                watch.error = str(error).splitlines()[0]
                return await failure_of(error)(scope, receive, tell)
            return await self.app(scope, receive, tell)
        except Exception:
            watch.status = 500
            raise
        finally:
            self._end(watch, path, began)

    def _end(self, watch: RequestWatch, path: str, began: bool) -> None:
        access, metrics = self.access, self.access.metrics
        route = access.route(path)
        if began:
            access.limiter.leave(watch.rules, watch.tokens)
            metrics.ended(
                route,
                watch.status,
                time.monotonic() - watch.started,
                first=None if watch.first is None else watch.first - watch.started,
                plan=metrics.label(watch.plan, watch.plan_name),
                prompt_tokens=watch.prompt_tokens,
                reply_tokens=watch.reply_tokens,
                field=watch.told,
            )
        else:
            metrics.refused(route, watch.status)
        if access.log_requests:
            watch.write()

    def _rules(self, headers: dict[bytes, bytes]) -> Any:
        rules = self.access.policy.rules_of(headers.get(b"authorization", b""))
        if rules is None:
            raise StatusError(
                401,
                "the key is missing or wrong\n  -> send it as Authorization: Bearer KEY",
                WWW_Authenticate="Bearer",
            )
        return rules

    def _check_route(self, watch: RequestWatch, runs: bool) -> None:
        knows_plans = watch.path in (CHAT, TEXT) or not self.access.other_routes
        if runs and not knows_plans and self.access.planned(watch.rules):
            raise StatusError(
                403,
                f"{watch.path[:100]} would run without the plan that requests have here\n"
                f"  -> send the request to {CHAT} or {TEXT}",
            )

    async def _read(self, scope: Any, receive: Receive, watch: RequestWatch) -> Receive:
        """Read a body, and return a function that gives it again.

        Raises:
            StatusError: 415 if it is not JSON where only JSON is read, 413 if it is too large.
        """
        headers, path = dict(scope["headers"]), watch.path
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        only_json = not self.access.other_routes or path in (CHAT, TEXT) or path.startswith(f"{OURS}/")
        if only_json and kind != b"application/json":
            raise StatusError(415, "the body is not application/json\n  -> send it as application/json")
        limit = UPLOAD_LIMIT if path.startswith(f"{OURS}/") else self.access.body_limit
        messages: list[Any] = []
        size = 0
        while not messages or messages[-1].get("more_body"):
            messages.append(await receive())
            size += len(messages[-1].get("body", b""))
            if size > limit:
                raise StatusError(413, f"the body is larger than {limit >> 20} MiB", Connection="close")
        if self.access.log_texts and path in (CHAT, TEXT):
            watch.texts = _texts(b"".join(message.get("body", b"") for message in messages))
        ahead = iter(messages)

        async def replay() -> Any:
            message = next(ahead, None)
            return await receive() if message is None else message

        return replay


def _texts(body: bytes) -> dict[str, Any]:
    """Return the texts of a request's body; nothing of one that is no request."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name in ("messages", "prompt") if name in value}
