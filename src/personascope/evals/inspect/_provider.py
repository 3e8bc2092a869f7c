"""An Inspect AI model provider that runs on our engine, with a plan."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from personascope.chat import Conversation, Message
from personascope.engines import Completion, EngineInfo, LocalEngine, Sampling, Scored
from personascope.errors import UsageError
from personascope.evals._open_engine import CHATS, LOADING, check_plan, open_engine
from personascope.evals.inspect._sampling import sampling_of
from personascope.interventions import Plan
from personascope.runs import Prompt, RequestQueue

RAW = "raw"
_ROLES = ("system", "user", "assistant")
_POLL = 0.02
T = TypeVar("T")


class PersonascopeAPI(ModelAPI):
    """Run any Inspect task on our engine: ``--model personascope/NAME -M plan=FOLDER``.

    Concurrent calls run as one batch. Models that differ only in the plan share one engine, and their
    requests share batches. Each output's metadata holds the digest of the applied plan, and its cap
    statistics.

    Args:
        model_name: Model name, as in `personascope.models.resolve`.
        base_url: Not supported, because the model runs locally.
        api_key: Ignored.
        config: Generation options.
        model_args: ``plan`` (a folder), ``chat``, and the engine options ``engine``, ``dtype``, ``device``,
            ``device_map``, ``attn_implementation``, ``trust_remote_code``, ``max_batch``, ``thinking`` (on or
            off). ``chat`` is auto (the model's template, or raw if it has none), transcript (a plain
            dialogue), or raw (a single user message that the model continues verbatim).

    Raises:
        UsageError: If an argument is unknown or a base URL is given.
        ModelError: If the model cannot be loaded.
        StoreError: If the folder holds no plan.
        InterventionError: If the plan is of another model.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own signature)
        **model_args: Any,
    ) -> None:
        """Load the model, or share the engine of an open model with the same arguments."""
        super().__init__(model_name, base_url, api_key, [], config)
        known = ("plan", "chat", *LOADING)
        unknown = sorted(set(model_args) - set(known))
        if unknown or base_url is not None:
            what = f"takes no model argument {', '.join(unknown)}" if unknown else "has no base URL"
            raise UsageError(f"personascope/{model_name} {what}", hint=f"-M takes {', '.join(known)}")
        chat = model_args.get("chat", "auto")
        if chat not in (*CHATS, RAW):
            raise UsageError(f"chat is {chat!r}", hint=f"give one of {', '.join((*CHATS, RAW))}")
        # Read the plan first, so that a wrong path fails before the model is loaded.
        self.plan = None if model_args.get("plan") is None else Plan.load(str(model_args["plan"]))
        loading = {name: model_args.get(name) for name in LOADING}
        self._shared = _Shared.take(model_name, loading, "auto" if chat == RAW else chat)
        self._raw = chat == RAW or not self.info.chat_digest
        self._closed = False
        if self.plan is not None:
            try:
                check_plan(self.plan, self._shared.engine)
            except BaseException:
                self.close()
                raise

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model."""
        return self._shared.engine.info

    @property
    def raw(self) -> bool:
        """Whether a prompt is continued verbatim, without a chat template."""
        return self._raw

    def close(self) -> None:
        """Release the engine; the last model that shares it ends its thread."""
        if not self._closed:
            self._closed = True
            self._shared.give()

    def max_tokens(self) -> int | None:
        """Return the default maximum response length, in tokens."""
        return Sampling().max_new_tokens

    def max_connections(self) -> int:
        """Return the number of concurrent calls: several batches, because finished rows are refilled."""
        return 4 * self._shared.engine.max_batch

    def connection_key(self) -> str:
        """Return the key under which Inspect limits connections: one per shared engine."""
        return f"{self.model_name} {id(self._shared)}"

    async def count_text_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self._shared.engine.encode(text))

    async def tokenize(self, text: str) -> list[int]:
        """Return a text's tokens."""
        return list(self._shared.engine.encode(text))

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,  # noqa: ARG002
        config: GenerateConfig,
    ) -> ModelOutput:
        """Return one response.

        Raises:
            UsageError: If tools, media, a prefilled reply or an option is requested that the engine does not
                support; the message names it.
            EngineError: If the plan was not applied.
        """
        if tools:
            names = ", ".join(tool.name for tool in tools)
            raise UsageError(f"personascope models use no tools, and the task brings {names}")
        sampling, seed = sampling_of(config)
        batcher = self._shared.batcher
        done = await _result(batcher.generate(self.prompt(input), sampling, plan=self.plan, seed=seed))
        return self._output(done)

    async def continuations(self, text: str, continuations: Sequence[str]) -> list[float]:
        """Return the log-probability of each of several continuations of a verbatim text.

        Text and continuation are tokenized together, so that a word at the boundary is not split.

        Raises:
            UsageError: If a continuation adds no token.
            EngineError: If the plan was not applied.
        """
        engine = self._shared.engine
        before = engine.encode(text, special=True)
        waiting: list[Future[Scored]] = []
        for more in continuations:
            tokens = engine.encode(text + more, special=True)[len(before) :]
            if not tokens:
                raise UsageError(f"the continuation {more!r} has no token", hint="give a text")
            waiting.append(self._shared.batcher.score(before, tokens, plan=self.plan))
        return [float((await _result(one)).logprobs.sum(dtype="float64")) for one in waiting]

    async def surprise(self, input: Sequence[ChatMessage], reply: str) -> list[float]:
        """Return the log-probability of each token of a reply under the model without a plan.

        Raises:
            UsageError: If the reply has no token.
        """
        tokens = self._shared.engine.encode(reply)
        if not tokens:
            raise UsageError(f"the reply {reply!r} has no token")
        scored = await _result(self._shared.batcher.score(self.prompt(input), tokens))
        return [float(value) for value in scored.logprobs]

    def prompt(self, messages: Sequence[ChatMessage]) -> Prompt:
        """Return messages as a conversation or, for a raw model, as the tokens of the single user message.

        Raises:
            UsageError: If the messages hold something that the model cannot read.
        """
        conversation = tuple(_message(message) for message in messages)
        if not self._raw:
            if conversation and conversation[-1].role == "assistant":
                raise UsageError(
                    "the conversation ends with the model's own message, to be continued",
                    hint="end it with a user message",
                )
            return conversation
        return self._text(conversation)

    def _text(self, conversation: Conversation) -> tuple[int, ...]:
        roles = [message.role for message in conversation]
        if roles != ["user"]:
            why = "was opened with chat=raw" if self.info.chat_digest else "has no chat template"
            raise UsageError(
                f"{self.model_name} {why} and continues one user message, not {', '.join(roles) or 'none'}",
                hint="say -M chat=transcript to have conversations written as a plain dialogue",
            )
        return self._shared.engine.encode(conversation[0].content, special=True)

    def _output(self, done: Completion) -> ModelOutput:
        told = done.cap_stats
        metadata: dict[str, Any] = {
            "plan": None if self.plan is None else self.plan.name,
            "plan_digest": done.plan_digest,
            # None for a plan without a cap, which differs from a cap that never fired.
            "firing_share": told.firing_share if told is not None and told.fired else None,
            "plan_tokens": None if told is None else told.tokens,
            "capped_tokens": None if told is None else told.capped_tokens,
            "max_moved": None if told is None else told.max_moved,
        }
        tokens = len(done.token_ids)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(
                    message=ChatMessageAssistant(content=done.text, model=self.model_name, source="generate"),
                    stop_reason="stop" if done.finish_reason == "stop" else "max_tokens",
                )
            ],
            usage=ModelUsage(
                input_tokens=done.prompt_tokens,
                output_tokens=tokens,
                total_tokens=done.prompt_tokens + tokens,
            ),
            metadata=metadata,
        )


class _Shared:
    """An engine and its request queue, with a count of the models that share them."""

    _open: dict[str, _Shared] = {}  # noqa: RUF012 (the one registry of open engines)
    _lock = threading.Lock()

    def __init__(self, key: str, engine: LocalEngine) -> None:
        self.key, self.engine = key, engine
        self.batcher = RequestQueue(engine)
        self.users = 0

    @classmethod
    def take(cls, model: str, loading: dict[str, Any], chat: str) -> _Shared:
        key = repr((model, sorted(loading.items()), chat))
        # Hold the lock while loading, so that a second model with the same key waits and shares the engine.
        with cls._lock:
            shared = cls._open.get(key)
            if shared is None:
                shared = cls._open[key] = cls(key, open_engine(model, loading, chat=chat))
            shared.users += 1
            return shared

    def give(self) -> None:
        with self._lock:
            self.users -= 1
            if self.users:
                return
            self._open.pop(self.key, None)
        self.batcher.close()


def _message(message: ChatMessage) -> Message:
    role = message.role
    if role not in _ROLES:
        raise UsageError(f"a message of {role!r} cannot be shown to a personascope model")
    if isinstance(message.content, str):
        return Message(role, message.content)
    texts: list[str] = []
    for part in message.content:
        if isinstance(part, ContentText):
            texts.append(part.text)
        elif not isinstance(part, ContentReasoning):
            raise UsageError(
                f"a {role} message holds content of the type {part.type}, and the model reads text",
                hint="choose a task with text alone",
            )
    return Message(role, "\n".join(texts))


async def _result(future: Future[T]) -> T:
    """Await a future of another thread, on asyncio or trio, whichever Inspect runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        while not future.done():
            await anyio.sleep(_POLL)
        return future.result()
    return await asyncio.wrap_future(future)
