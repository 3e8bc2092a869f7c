"""Call a model behind a server, for judges and auditors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from personascope.chat import Message
from personascope.errors import JudgeError
from personascope.judge._rubric import Rubric
from personascope.judge.remote._client import TOO_LARGE, CallError, ChatClient
from personascope.judge.remote._dialect import Dialect, DialectError
from personascope.judge.remote._endpoint import Endpoint
from personascope.judge.remote._reply import FILTERED, NO_COMPLETION, ChatReply, read_reply


class ChatModel:
    """Call one model, and remember which form of a request its server accepts.

    It belongs to one event loop between `open` and `aclose`; what it learnt about the server stays.

    Args:
        model: Name of the model on the server.
        endpoint: Server to call.
        who: Name of the model in errors, as in "judge openai:...".
        timeout: Seconds for a whole call, including reading its answer to the end.
        concurrency: Maximum number of calls at the same time.
    """

    def __init__(self, model: str, endpoint: Endpoint, *, who: str, timeout: float, concurrency: int) -> None:
        """Store the settings; no connection is opened yet."""
        self._model = model
        self._endpoint = endpoint
        self._who = who
        self._timeout = timeout
        self._concurrency = concurrency
        self._client: ChatClient | None = None
        self._slots = asyncio.Semaphore(concurrency)
        self._first = asyncio.Lock()
        self._dialect = Dialect()
        self._working = False

    def open(self) -> None:
        """Start on the running event loop."""
        self._client = ChatClient(self._endpoint, timeout=self._timeout, concurrency=self._concurrency)
        self._slots = asyncio.Semaphore(self._concurrency)
        self._first = asyncio.Lock()

    async def aclose(self) -> None:
        """Close the connections; `open` starts on another event loop."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    @property
    def working(self) -> bool:
        """Whether the model has ever answered."""
        return self._working

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Hold one of the places for calls; until a first call has succeeded there is only one.

        A wrong key or an empty account then costs a single call.
        """
        async with self._slots, AsyncExitStack() as held:
            if not self._working:
                await self._first.acquire()
                if self._working:
                    self._first.release()
                else:
                    held.callback(self._first.release)
            yield

    async def call(
        self,
        dialect: Dialect,
        messages: Sequence[Message],
        reply_tokens: int,
        rubric: Rubric | None = None,
        *,
        temperature: float = 0,
        more: Mapping[str, object] | None = None,
    ) -> ChatReply:
        """Make one call in a given dialect; for the arguments see `Dialect.body`.

        Raises:
            CallError: If the call gave no usable reply.
            DialectError: If the server asks for another form of the request.
            JudgeError: If no call to this server can succeed.
        """
        assert self._client is not None, "used before it was opened"
        body = dialect.body(self._model, messages, reply_tokens, rubric, temperature=temperature, more=more)
        return read_reply(await self._client.post(body), dialect, self._endpoint, self._who)

    async def ask(self, send: Callable[[Dialect], Awaitable[ChatReply]]) -> ChatReply:
        """Call ``send`` until the server accepts the form of the request, and remember that form.

        Raises:
            CallError: If a call gave no usable reply.
            JudgeError: If no call can succeed, or the first answer comes from something other than a
                chat-completions server.
        """
        dialect = self._dialect
        while True:
            try:
                reply = await send(dialect)
                break
            except DialectError as refused:
                dialect = refused.dialect
            except CallError as failure:
                self._working = self._working or failure.kind == FILTERED
                if failure.kind in (NO_COMPLETION, TOO_LARGE) and not self._working:
                    raise JudgeError(
                        f"the {self._who} is no chat-completions server: {failure}",
                        hint="check the base URL, which usually ends in /v1; a login page comes from a proxy",
                    ) from failure
                raise
        # Keep the dialect only after success: a rejection may have been about something else.
        self._dialect = dialect
        self._working = True
        return reply

    async def chat(
        self,
        messages: Sequence[Message],
        reply_tokens: int,
        *,
        temperature: float = 0,
        more: Mapping[str, object] | None = None,
    ) -> ChatReply:
        """Return the next message of a conversation.

        Raises:
            CallError: If the call gave no usable reply.
            JudgeError: If no call can succeed.
        """

        async def send(dialect: Dialect) -> ChatReply:
            return await self.call(dialect, messages, reply_tokens, temperature=temperature, more=more)

        return await self.ask(send)
