"""Judge with a model behind an OpenAI-compatible chat-completions server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from personascope.chat import Message
from personascope.errors import JudgeError, UsageError
from personascope.judge._contract import JudgeItem, JudgeStats, Verdict
from personascope.judge._prompts import rubric_messages
from personascope.judge._rubric import ROLE_SCORE, Rubric
from personascope.judge.parsing._answer import parse_answer, reason_of
from personascope.judge.parsing._refusal import is_refusal
from personascope.judge.remote._budget import CHARS_PER_TOKEN, Ledger, guess_tokens
from personascope.judge.remote._cache import ScoreCache, cache_key
from personascope.judge.remote._client import TOO_LARGE, CallError, Retries
from personascope.judge.remote._dialect import Dialect, DialectError
from personascope.judge.remote._endpoint import Endpoint
from personascope.judge.remote._model import ChatModel
from personascope.judge.remote._reply import FILTERED, ChatReply

REPLY_GUESS = 30
_LASTING = frozenset({FILTERED, "no score", "rejected", TOO_LARGE})
"""Kinds of failure that another call for the same item would meet again."""


@dataclass(frozen=True, slots=True)
class OpenAIOptions:
    """Settings of a remote judge.

    Attributes:
        api_key: API key; None for the environment's ``OPENAI_API_KEY``. Without either, no key is sent.
        headers: Header name -> environment variable that holds its value, such as ``{"api-key":
            "AZURE_API_KEY"}``. A header about a key replaces ``OPENAI_API_KEY``.
        concurrency: Maximum number of calls at the same time.
        timeout: Seconds for a whole call, including reading its answer to the end.
        attempts: Maximum number of calls for one item, besides those that find out the server's dialect.
        backoff: Upper bound of the first wait between attempts, in seconds. Each wait is drawn between 0 and
            a bound that doubles with every attempt.
        backoff_max: Upper bound of all such waits, in seconds.
        retry_after_max: Longest wait that a server's ``Retry-After`` is granted, in seconds.
        reply_tokens: Maximum number of tokens of one reply. Reasoning models need some thousands.
        give_up_after: Number of items in a row without a score after which the judge counts as broken.
        max_cost: Limit on the cost of this judge's calls, in the currency of the prices.
        max_tokens: Limit on the prompt and completion tokens of all calls together.
        price_in: Price of a million prompt tokens.
        price_out: Price of a million completion tokens.
        cache: SQLite file that caches the scores, or None.
    """

    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = None
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
            UsageError: If a number is negative, is 0 where it must be positive, or a cost limit comes without
                prices.
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
                hint="give price_in and price_out, per million tokens (--judge-price IN,OUT)",
            )


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimated prompt tokens, completion tokens and cost (None without prices) of judging."""

    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@dataclass(slots=True)
class _Session:
    """State of one event loop."""

    settled: asyncio.Condition
    fatal: JudgeError | None = None


@dataclass(slots=True)
class _Calls:
    """Number of calls made for one item, and the last reply that held no score."""

    calls: int = 0
    unparsed: str | None = None


class OpenAIJudge:
    """Ask a model behind an OpenAI-compatible server for the score, at temperature 0.

    Structured output is requested by schema. A server that rejects that is asked for a JSON object, then for
    plain text, and what it accepts is remembered. Until a first call has succeeded, items go one at a time,
    so that a wrong key or an empty account costs a single call. Calls that fail for a passing reason are
    repeated after a wait. A reply without a score is asked for once more, with the form of reply repeated.
    What a content filter or the model itself refuses counts as "filtered" after one call, and is not asked
    for again.

    A call that broke off after it was sent counts its estimated prompt tokens as spent, since the server may
    have charged for it.

    Args:
        model: Name of the model on the server.
        base_url: Address up to and including ``/v1``.
        options: Settings of the calls.

    Raises:
        UsageError: If the address is not an HTTP address or has credentials in it, or a header's variable is
            not set.
        JudgeError: If the cache file cannot be used.
    """

    def __init__(self, model: str, base_url: str, options: OpenAIOptions | None = None) -> None:
        """Check the address and open the cache; nothing is called yet."""
        options = options or OpenAIOptions()
        self._endpoint = Endpoint(base_url, api_key=options.api_key, headers=options.headers)
        self._model_name = model
        self._url = self._endpoint.name
        self._options = options
        self._name = f"openai:{model}@{self._url}"
        self._ledger = Ledger(
            self._name, options.max_cost, options.max_tokens, options.price_in, options.price_out
        )
        self._cache = None if options.cache is None else ScoreCache(Path(options.cache))
        self._session: _Session | None = None
        self._model = ChatModel(
            model,
            self._endpoint,
            who=f"judge {self._name}",
            timeout=options.timeout,
            concurrency=options.concurrency,
        )
        self._retries = Retries(
            options.attempts, options.backoff, options.backoff_max, options.retry_after_max
        )
        self._heard = False  # whether any HTTP answer came
        self._failed_in_a_row = 0

    @property
    def name(self) -> str:
        """Name of the judge, ``openai:MODEL@BASE_URL``."""
        return self._name

    @property
    def stats(self) -> JudgeStats:
        """Calls, tokens, cost and errors so far."""
        return self._ledger.snapshot()

    def estimate(self, items: int, mean_chars: float, rubric: Rubric = ROLE_SCORE) -> Estimate:
        """Estimate the tokens and cost of judging items, if none were cached or retried.

        Args:
            items: Number of items.
            mean_chars: Mean number of characters of an item (description, system prompt, question and
                response together).
            rubric: Rubric that the items are judged by.
        """
        frame = guess_tokens(rubric_messages(JudgeItem("", "", "", "", "", "", rubric=rubric)))
        prompt = math.ceil(items * (frame + mean_chars / CHARS_PER_TOKEN))
        completion = items * min(REPLY_GUESS, self._options.reply_tokens)
        return Estimate(prompt, completion, self._ledger.cost_of(prompt, completion))

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item, from the cache or by as many calls as it takes.

        Raises:
            JudgeError: If the quota or the budget is spent, the key is refused, the model does not exist, the
                server never answered, or too many items in a row got no score.
        """
        messages = rubric_messages(item)
        parameters: dict[str, object] = {"temperature": 0, "reply_tokens": self._options.reply_tokens}
        key = cache_key(self._model_name, self._url, messages, parameters, item.rubric.digest)
        known = self._cache.get(key) if self._cache else None
        if known is not None:
            self._ledger.cached += 1
            label = item.rubric.labels[known[0]]
            return Verdict(item.id, known[0], known[1], self._name, cached=True, label=label)
        session = self._session
        if session is None:
            session = self._session = _Session(asyncio.Condition())
            self._model.open()
        try:
            async with self._model.turn():
                return await self._scored(item, messages, key, session)
        except JudgeError as error:
            session.fatal = session.fatal or error
            raise

    async def aclose(self) -> None:
        """Close the connections; the cache stays open for the next event loop."""
        session, self._session = self._session, None
        if session is not None:
            await self._model.aclose()

    async def _scored(
        self, item: JudgeItem, messages: tuple[Message, ...], key: str, session: _Session
    ) -> Verdict:
        made = _Calls()
        try:
            scored: tuple[int, str] = await self._retries.start()(
                self._attempt, messages, item.rubric, made, session
            )
        except CallError as failure:
            self._count_failed(failure)
            calls = "1 call" if made.calls == 1 else f"{made.calls} calls"
            reason = f"no score after {calls}: {failure.kind}: {failure}"
            passing = failure.kind not in _LASTING
            return Verdict(item.id, None, reason, self._name, calls=made.calls, passing=passing)
        self._failed_in_a_row = 0
        score, reason = scored
        if self._cache:
            self._cache.put(key, score, reason, self._model_name)
        label = item.rubric.labels[score]
        return Verdict(item.id, score, reason, self._name, calls=made.calls, label=label)

    async def _attempt(
        self, messages: tuple[Message, ...], rubric: Rubric, made: _Calls, session: _Session
    ) -> tuple[int, str]:
        if made.unparsed is not None:
            # Repeating the same messages would give the same reply at temperature 0.
            said = Message("assistant", made.unparsed.strip()[:500] or "(nothing)")
            messages = (*messages, said, Message("user", rubric.form))

        async def send(dialect: Dialect) -> ChatReply:
            try:
                return await self._call(messages, rubric, dialect, made, session)
            except DialectError:
                self._ledger.errors["format refused"] += 1
                raise
            except CallError as failure:
                self._ledger.errors[failure.kind] += 1
                raise

        reply = await self._model.ask(send)
        # Some servers put the whole reply into the reasoning field; if cut, it holds no answer.
        text = reply.text if reply.text.strip() or reply.cut else reply.reasoning
        score = parse_answer(text, rubric, cut=reply.cut)
        if score is not None:
            # Clean once more, because JSON inside the reply has its own escapes.
            return score, reason_of(text, self._endpoint.clean)
        if is_refusal(text):
            self._ledger.errors[FILTERED] += 1
            raise CallError(FILTERED, f"the judge model declines: {text.strip()[:80]!r}", again=False)
        self._ledger.errors["no score"] += 1
        if reply.cut:
            limit = f"the reply was cut at {self._options.reply_tokens} tokens (raise reply_tokens)"
            raise CallError("no score", f"{limit}: {text[-80:]!r}", again=False)
        first, made.unparsed = made.unparsed is None, text
        raise CallError("no score", f"the reply gives no {rubric.key}: {text[:80]!r}", again=first)

    async def _call(
        self,
        messages: tuple[Message, ...],
        rubric: Rubric,
        dialect: Dialect,
        made: _Calls,
        session: _Session,
    ) -> ChatReply:
        if session.fatal is not None:
            # Another item ended the judge while this one waited for its turn.
            raise JudgeError(session.fatal.message, hint=session.fatal.hint)
        guess = guess_tokens(messages)
        reserved = (guess, self._options.reply_tokens)
        await self._ledger.reserve(*reserved, session.settled)
        used = (guess, 0)
        self._ledger.calls += 1
        self._ledger.retries += made.calls > 0
        made.calls += 1
        try:
            reply = await self._model.call(dialect, messages, self._options.reply_tokens, rubric)
            self._heard = True
            prompt, completion = reply.prompt_tokens, reply.completion_tokens
            received = math.ceil(len(reply.text + reply.reasoning) / CHARS_PER_TOKEN)
            used = (
                guess if prompt is None else prompt,
                received if completion is None else completion,
            )
        except CallError as failure:
            self._heard = self._heard or failure.answered
            if not failure.sent or (failure.answered and failure.kind != FILTERED):
                used = (0, 0)
            raise
        except (DialectError, JudgeError):
            self._heard, used = True, (0, 0)
            raise
        finally:
            await self._ledger.settle(reserved, used, session.settled)
        return reply

    def _count_failed(self, failure: CallError) -> None:
        if failure.kind == FILTERED:
            # The judge works; only the material is refused.
            return
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
