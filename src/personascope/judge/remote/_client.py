"""Call a chat-completions server with limits on time and size, and retry where that may help."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from personascope.judge.remote._endpoint import Endpoint

MAX_BODY = 4 * 2**20
"""Maximum size of a server's answer in bytes, packed and unpacked; far more than any reply needs."""

TOO_LARGE = "too large"
"""Kind of the error for an answer longer than `MAX_BODY`."""


class CallError(Exception):
    """A call gave no usable reply.

    Attributes:
        kind: Kind under which `JudgeStats.errors` counts it.
        again: Whether the same call may succeed later.
        wait: Seconds that the server asked to wait before the next call, or None.
        answered: Whether the server answered at all.
        sent: Whether the request may have reached the server, which may charge for it.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        again: bool,
        wait: float | None = None,
        answered: bool = True,
        sent: bool = True,
    ) -> None:
        """Store the attributes."""
        super().__init__(message)
        self.kind = kind
        self.again = again
        self.wait = wait
        self.answered = answered
        self.sent = sent


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer over HTTP.

    Attributes:
        status: Status code.
        phrase: Reason phrase of the status.
        headers: Headers, with names in lower case.
        body: Body, unpacked.
    """

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether the body is a web page, such as a login or a proxy's notice."""
        html = "html" in self.headers.get("content-type", "").lower()
        return html or self.body.lstrip()[:1] == b"<"


class ChatClient:
    """Post requests to one server, from one event loop.

    Args:
        endpoint: Server to call.
        timeout: Seconds for a whole call, including reading its answer to the end.
        concurrency: Maximum number of connections.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, concurrency: int) -> None:
        """Prepare the client; no connection is opened yet."""
        self._endpoint = endpoint
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            # Packed answers are unpacked in `_unpacked`: httpx would unpack a bomb before it is measured.
            headers={**endpoint.headers, "Accept-Encoding": "identity"},
            timeout=timeout,
            limits=httpx.Limits(max_connections=concurrency),
            # A proxy from the environment cannot reach a server on this machine.
            trust_env=endpoint.host not in ("localhost", "127.0.0.1", "::1"),
        )

    async def post(self, body: Mapping[str, object]) -> HttpAnswer:
        """Send a request and read its answer.

        Raises:
            CallError: If there is no answer in time ("timeout"), the connection fails ("connection"), or the
                answer is longer than `MAX_BODY` ("too large"), damaged, or packed in an unknown way
                ("malformed").
        """
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._endpoint.url, json=body) as response,
            ):
                raw = bytearray()
                async for chunk in response.aiter_raw(2**16):
                    raw += chunk
                    if len(raw) > MAX_BODY:
                        raise _too_large()
                headers = {name.lower(): value for name, value in response.headers.items()}
                content = _unpacked(bytes(raw), headers.get("content-encoding", ""))
                return HttpAnswer(response.status_code, response.reason_phrase, headers, content)
        except (TimeoutError, httpx.TimeoutException):
            # Raise outside the handler, because a library's error may hold the headers that were sent.
            failure = CallError("timeout", f"no answer within {self._timeout} s", again=True, answered=False)
        except httpx.ConnectError as error:
            failure = CallError("connection", self._told(error), again=True, answered=False, sent=False)
        except httpx.HTTPError as error:
            failure = CallError("connection", self._told(error), again=True, answered=False)
        raise failure

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _told(self, error: Exception) -> str:
        return self._endpoint.clean(str(error) or type(error).__name__)[:300]


@dataclass(frozen=True, slots=True)
class Retries:
    """Settings of how calls are repeated.

    Attributes:
        attempts: Maximum number of calls.
        backoff: Upper bound of the first wait, in seconds. Each wait is drawn between 0 and a bound that
            doubles.
        backoff_max: Upper bound of all such waits, in seconds.
        retry_after_max: Longest wait that a server's ``Retry-After`` is granted, in seconds.
    """

    attempts: int = 6
    backoff: float = 1.0
    backoff_max: float = 30.0
    retry_after_max: float = 90.0

    def start(self) -> AsyncRetrying:
        """Return a retrier that repeats one call after a `CallError` with ``again``."""
        drawn = wait_random_exponential(multiplier=self.backoff, max=self.backoff_max)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait if isinstance(error, CallError) and error.wait is not None else 0.0
            # Jitter keeps calls that were refused together from coming back together.
            return min(asked, self.retry_after_max) + drawn(state)

        return AsyncRetrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait,
            retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.again),
            reraise=True,
        )


def _too_large() -> CallError:
    return CallError(TOO_LARGE, f"the answer is longer than {MAX_BODY // 2**20} MiB", again=False)


def _unpacked(raw: bytes, encoding: str) -> bytes:
    """Unpack a body that came packed although plain was asked for, up to `MAX_BODY`."""
    kind = encoding.strip().lower()
    if kind in ("", "identity"):
        return raw
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise CallError("malformed", f"the answer is packed as {kind[:20]!r}, unasked", again=False)
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        content = unpack.decompress(raw, MAX_BODY)
    except zlib.error as error:
        raise CallError("malformed", f"the packed answer is damaged: {error}", again=True) from error
    if unpack.unconsumed_tail:
        raise _too_large()
    return content
