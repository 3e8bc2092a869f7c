"""A judge behind an OpenAI-compatible chat-completions server."""

from __future__ import annotations

import asyncio
import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from personascope.chat import Message
from personascope.errors import JudgeError, UsageError
from personascope.judge._contract import JudgeItem, JudgeStats, Verdict
from personascope.judge._prompts import rubric_messages
from personascope.judge._rubric import ROLE_SCORE, Rubric
from personascope.judge.parsing._labels import parse_answer
from personascope.judge.parsing._scores import reason_of
from personascope.judge.remote._budget import CHARS_PER_TOKEN, Ledger, guess_tokens
from personascope.judge.remote._cache import ScoreCache, cache_key
from personascope.judge.remote._dialect import CallError, Dialect, DialectError, JudgeReply, read_reply

REPLY_GUESS = 30


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """How a remote judge is called.

    Attributes:
        api_key: None for the environment's ``OPENAI_API_KEY``; without either, no key is sent.
        concurrency: Calls under way at the same time, at most.
        timeout: Seconds for a whole call.
        attempts: Calls for one item at most, besides those that find out the server's dialect.
        backoff: Seconds of the first wait between attempts, at most; each wait is drawn between 0
            and a bound that doubles with every attempt.
        backoff_max: Seconds of the longest such wait.
        retry_after_max: Longest wait that a server's ``Retry-After`` is granted, seconds.
        reply_tokens: Limit on one reply. Reasoning models need some thousands.
        give_up_after: Items in a row without a score after which the judge is taken for broken.
        max_cost: Limit on the cost of this judge's calls, in the currency of the prices.
        max_tokens: Limit on prompt and completion tokens of all calls together.
        price_in: Price of a million prompt tokens.
        price_out: Price of a million completion tokens.
        cache: SQLite file that keeps the scores, or None.
    """

    api_key: str | None = field(default=None, repr=False)
    concurrency: int = 16
    timeout: float = 60.0
    attempts: int = 6
    backoff: float = 1.0
    backoff_max: float = 30.0
    retry_after_max: float = 90.0
    reply_tokens: int = 256
    give_up_after: int = 25
    max_cost: float | None = None
    max_tokens: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    cache: Path | str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            UsageError: If a number is not positive, or a cost limit comes without prices.
        """
        zero_is_fine = ("backoff", "backoff_max", "retry_after_max", "price_in", "price_out")
        for option in fields(self):
            value = getattr(self, option.name)
            positive = option.name not in zero_is_fine
            if isinstance(value, int | float) and not (value > 0 if positive else value >= 0):
                raise UsageError(
                    f"the judge's {option.name} is {value}",
                    hint=f"give a {'positive number' if positive else 'number of 0 or more'}",
                )
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise UsageError(
                f"the judge's max_cost is {self.max_cost}, but its prices are not known",
                hint="give price_in and price_out, per million tokens",
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """What judging would take: tokens in, tokens out, and the cost (None without prices)."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(slots=True)
class _Session:
    """What belongs to one event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    first: asyncio.Lock
    settled: asyncio.Condition
    fatal: JudgeError | None = None


@dataclass(slots=True)
class _Tally:
    """Calls made for one item, and those of them whose reply held no score."""

    calls: int = 0
    unparsed: int = 0


class OpenAIJudge:
    """Asks a model behind an OpenAI-compatible server for the score, temperature 0.

    Structured output is asked for by schema; a server that refuses that is asked for a JSON object,
    then for plain text, and what it takes is remembered. Until a first call has succeeded, items go
    one at a time, so that a wrong key or an empty account costs a single call. Calls that fail for
    a passing reason are repeated after a wait; a reply without a score is asked for once more.

    A call that broke off after it was sent counts its estimated prompt tokens as spent, since the
    server may well have charged for it.

    Args:
        model: The model's name on the server.
        base_url: Address up to and including ``/v1``.
        options: How to call it.

    Raises:
        UsageError: If the address is no HTTP address, or has credentials in it.
        JudgeError: If the cache file cannot be used.
    """

    def __init__(self, model: str, base_url: str, options: OpenAIOptions | None = None) -> None:
        """Check the address and open the cache; nothing is called yet."""
        options = options or OpenAIOptions()
        try:
            url = httpx.URL(base_url.rstrip("/"))
        except httpx.InvalidURL as error:
            raise UsageError(f"the judge's base URL {base_url!r} is no URL: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(
                f"the judge's base URL {base_url!r} is no HTTP address", hint="give one like https://host/v1"
            )
        if url.userinfo:
            raise UsageError(
                f"the judge's base URL for {url.host} has credentials in it",
                hint="give the key in OPENAI_API_KEY; the URL is stored with the results",
            )
        self._model = model
        self._url = str(url)
        self._host = url.host
        self._options = options
        self._name = f"openai:{model}@{self._url}"
        self._ledger = Ledger(
            self._name, options.max_cost, options.max_tokens, options.price_in, options.price_out
        )
        self._cache = None if options.cache is None else ScoreCache(Path(options.cache))
        self._session: _Session | None = None
        self._dialect = Dialect()
        self._heard = False  # any HTTP answer, whatever it said
        self._working = False  # a reply of the model
        self._failed_in_a_row = 0
        self._backoff = wait_random_exponential(multiplier=options.backoff, max=options.backoff_max)

    @property
    def name(self) -> str:
        """``openai:MODEL@BASE_URL``."""
        return self._name

    @property
    def stats(self) -> JudgeStats:
        """Calls, tokens, cost and errors so far."""
        return self._ledger.snapshot()

    def estimate(self, items: int, mean_chars: float, rubric: Rubric = ROLE_SCORE) -> Estimate:
        """Estimate what so many items would take if none were cached or retried.

        Args:
            items: Number of items.
            mean_chars: Mean length of what an item brings along (description, system prompt,
                question and response together), in characters.
            rubric: What they are judged by.
        """
        frame = guess_tokens(rubric_messages(JudgeItem("", "", "", "", "", "", rubric=rubric)))
        prompt = math.ceil(items * (frame + mean_chars / CHARS_PER_TOKEN))
        completion = items * min(REPLY_GUESS, self._options.reply_tokens)
        return Estimate(prompt, completion, self._ledger.cost_of(prompt, completion))

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item, from the cache or by as many calls as it takes.

        Raises:
            JudgeError: If the quota or the budget is spent, the key is refused, the model is not
                there, the server never answered, or too many items in a row got no score.
        """
        messages = rubric_messages(item)
        parameters: dict[str, object] = {"temperature": 0, "reply_tokens": self._options.reply_tokens}
        key = cache_key(self._model, self._url, messages, parameters, item.rubric.digest)
        known = self._cache.get(key) if self._cache else None
        if known is not None:
            self._ledger.cached += 1
            label = item.rubric.labels[known[0]]
            return Verdict(item.id, known[0], known[1], self._name, cached=True, label=label)
        session = self._session = self._session or self._open()
        try:
            async with session.slots:
                if not self._working:
                    async with session.first:
                        if not self._working:
                            return await self._scored(item, messages, key, session)
                return await self._scored(item, messages, key, session)
        except JudgeError as error:
            session.fatal = session.fatal or error
            raise

    async def aclose(self) -> None:
        """Close the connections; the cache stays open for the next event loop."""
        session, self._session = self._session, None
        if session is not None:
            await session.client.aclose()

    def _open(self) -> _Session:
        options = self._options
        key = options.api_key or os.environ.get("OPENAI_API_KEY")
        client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=options.timeout,
            limits=httpx.Limits(max_connections=options.concurrency),
            # A proxy of the environment cannot reach a server on this machine.
            trust_env=self._host not in ("localhost", "127.0.0.1", "::1"),
        )
        return _Session(client, asyncio.Semaphore(options.concurrency), asyncio.Lock(), asyncio.Condition())

    async def _scored(
        self, item: JudgeItem, messages: tuple[Message, ...], key: str, session: _Session
    ) -> Verdict:
        tally = _Tally()
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self._options.attempts),
            wait=self._wait,
            retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.again),
            reraise=True,
        )
        try:
            scored: tuple[int, str] = await retrying(self._attempt, messages, item.rubric, tally, session)
        except CallError as failure:
            self._count_failed(failure)
            reason = f"no score after {tally.calls} calls: {failure.kind}: {failure}"
            return Verdict(item.id, None, reason, self._name, calls=tally.calls)
        self._failed_in_a_row = 0
        score, reason = scored
        if self._cache:
            self._cache.put(key, score, reason, self._model)
        label = item.rubric.labels[score]
        return Verdict(item.id, score, reason, self._name, calls=tally.calls, label=label)

    async def _attempt(
        self, messages: tuple[Message, ...], rubric: Rubric, tally: _Tally, session: _Session
    ) -> tuple[int, str]:
        dialect = self._dialect
        while True:
            try:
                reply = await self._call(messages, rubric, dialect, tally, session)
                break
            except DialectError as refused:
                self._ledger.errors["format refused"] += 1
                dialect = refused.dialect
            except CallError as failure:
                self._ledger.errors[failure.kind] += 1
                raise
        # Kept only now: a refusal may have been about something else.
        self._dialect = dialect
        self._working = True
        score = parse_answer(reply.text, rubric, cut=reply.cut)
        if score is not None:
            return score, reason_of(reply.text)
        self._ledger.errors["no score"] += 1
        if reply.cut:
            limit = f"the reply was cut at {self._options.reply_tokens} tokens (raise reply_tokens)"
            raise CallError("no score", f"{limit}: {reply.text[-80:]!r}", again=False)
        tally.unparsed += 1
        raise CallError(
            "no score", f"the reply gives no {rubric.key}: {reply.text[:80]!r}", again=tally.unparsed < 2
        )

    async def _call(
        self,
        messages: tuple[Message, ...],
        rubric: Rubric,
        dialect: Dialect,
        tally: _Tally,
        session: _Session,
    ) -> JudgeReply:
        if session.fatal is not None:
            # Another item ended the judge while this one waited for its turn.
            raise JudgeError(session.fatal.message, hint=session.fatal.hint)
        guess = guess_tokens(messages)
        reserved = (guess, self._options.reply_tokens)
        await self._ledger.reserve(*reserved, session.settled)
        used = (guess, 0)
        self._ledger.calls += 1
        self._ledger.retries += tally.calls > 0
        tally.calls += 1
        try:
            async with asyncio.timeout(self._options.timeout):
                response = await session.client.post(
                    f"{self._url}/chat/completions",
                    json=dialect.body(self._model, messages, self._options.reply_tokens, rubric),
                )
            self._heard = True
            used = (0, 0)
            reply = read_reply(response, dialect, self._name)
            prompt, completion = reply.prompt_tokens, reply.completion_tokens
            used = (
                guess if prompt is None else prompt,
                math.ceil(len(reply.text) / CHARS_PER_TOKEN) if completion is None else completion,
            )
        except (TimeoutError, httpx.TimeoutException) as error:
            message = f"no answer within {self._options.timeout} s"
            raise CallError("timeout", message, again=True) from error
        except httpx.ConnectError as error:
            used = (0, 0)
            raise CallError("connection", str(error) or type(error).__name__, again=True) from error
        except httpx.HTTPError as error:
            raise CallError("connection", str(error) or type(error).__name__, again=True) from error
        finally:
            await self._ledger.settle(reserved, used, session.settled)
        return reply

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, CallError) and error.wait is not None:
            # The jitter keeps the calls that were turned away together from coming back together.
            return min(error.wait, self._options.retry_after_max) + self._backoff(state)
        return self._backoff(state)

    def _count_failed(self, failure: CallError) -> None:
        self._failed_in_a_row += 1
        if not self._heard:
            raise JudgeError(
                f"the judge {self._name} cannot be reached: {failure}",
                hint="check the base URL, and that the server runs",
            ) from failure
        if self._failed_in_a_row >= self._options.give_up_after:
            raise JudgeError(
                f"the judge {self._name} gave no score for {self._failed_in_a_row} items in a row,"
                f" at last: {failure.kind}: {failure}",
                hint="look at the server, then run the same command again",
            ) from failure
