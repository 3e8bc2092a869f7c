"""Generation with pooled activations in one pass, on Transformers.

Rows run together. A row that ends is dropped at that step, and its place is refilled if the model's memory
allows it, so that a long response delays no other. If activations are read, the last token of a response
is also fed before the row ends, so that the mean covers every response token. The end-of-turn token is
neither fed nor counted.
"""

from __future__ import annotations

import logging
import platform
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import cast

import torch

import personascope
from personascope.chat import (
    ChatFormat,
    ChatOptions,
    Conversation,
    Rendered,
    ReplyFormat,
    TranscriptFormat,
)
from personascope.engines._checks import check_characters, check_gate, check_length, check_request
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
)
from personascope.engines._parts import check_reply_parts
from personascope.engines._texts import Texts
from personascope.engines._transformers._attention import use_grouped_attention
from personascope.engines._transformers._batch import Batch
from personascope.engines._transformers._choice import ModelMemory
from personascope.engines._transformers._finite import Failures, check_turns
from personascope.engines._transformers._follow import Follower
from personascope.engines._transformers._live import LiveBatch, out_of_memory
from personascope.engines._transformers._observe import observe_turns
from personascope.engines._transformers._rows import Queued
from personascope.engines._transformers._score import score_batches
from personascope.engines._transformers._taps import ForwardHooks
from personascope.errors import EngineError
from personascope.interventions import Plan, TokenSpans, reply_parts
from personascope.models import LoadedModel

log = logging.getLogger(__name__)

WINDOW = 1024
"""Number of requests to read ahead, so that prompts that share a prefix are processed together."""


class TransformersEngine(Texts[LoadedModel]):
    """The ``Engine`` contract on a model of Transformers.

    A prefix (a system prompt) or whole prompt that requests share is computed once. When memory runs out,
    the running rows go back to the queue, the batch is halved, and they are generated anew with the same
    random draws.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_batch: int = 128,
        prefill_tokens: int = 8192,
        chat: ChatFormat | TranscriptFormat | None = None,
    ) -> None:
        """Wrap a loaded model.

        Args:
            loaded: Model that ``personascope.models.load`` returned.
            max_batch: Maximum number of rows that run together.
            prefill_tokens: Maximum number of prompt tokens, padding included, in one forward pass.
            chat: Format of conversations instead of the model's own, for example
                ``ChatFormat.transcript(tokenizer)`` for a base model.
        """
        self.loaded = self.files = loaded
        self.chat = chat or loaded.chat
        self.max_batch = max_batch
        self.prefill_tokens = prefill_tokens
        self._taps = ForwardHooks(loaded.stack.blocks)
        use_grouped_attention(loaded.model)
        self._context = _context(loaded)

    @property
    def info(self) -> EngineInfo:
        """Identity and shape of the model."""
        loaded, chat = self.loaded, self.chat
        return EngineInfo(
            engine="transformers",
            model_id=loaded.model_id,
            model_revision=loaded.revision,
            n_layers=loaded.n_layers,
            d_model=loaded.d_model,
            dtype=loaded.dtype,
            chat_digest=chat.digest if chat else "",
            versions={"personascope": personascope.__version__}
            | {name: version(name) for name in ("torch", "transformers")}
            | {"python": platform.python_version()},
            context=self._context,
            **self._chat_info(),
        )

    def with_transcript(self) -> TransformersEngine:
        """Return an engine on the same model that writes conversations as a plain transcript."""
        return self.with_format(self._transcript_chat())

    def with_chat(self, options: ChatOptions) -> TransformersEngine:
        """Return an engine on the same model whose chat template is rendered with other options.

        Raises:
            ChatError: If the model has no chat template, or the template has no such variable.
        """
        chat = self._chat_with(options)
        return self if chat is self.chat else self.with_format(chat)

    def with_format(self, chat: ChatFormat | TranscriptFormat) -> TransformersEngine:
        """Return an engine on the same model with another format of conversations."""
        twin = TransformersEngine(
            self.loaded, max_batch=self.max_batch, prefill_tokens=self.prefill_tokens, chat=chat
        )
        if "_memory" in vars(self):
            twin._memory = self._memory
        return twin

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded in completion order.

        Raises:
            EngineError: If a request cannot be honoured (a layer that the model does not have, a plan
                of another model, a prompt longer than the model's context), or memory runs out with a
                single row. After all other requests: if activations or logits of one were not finite.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        waiting: deque[Queued] = deque()
        limit = self.max_batch
        failures = Failures(self.loaded.dtype)

        def refill() -> None:
            if len(waiting) < limit:
                ahead = [self._queue(request) for request in islice(source, WINDOW)]
                waiting.extend(sorted(ahead, key=lambda queued: queued.prompt))

        with self._taps.attached():
            while True:
                refill()
                if not waiting:
                    break
                batch = Batch(
                    self.loaded,
                    self._taps,
                    self._memory,
                    self._stops,
                    failures,
                    limit=limit,
                    budget=self.prefill_tokens,
                )
                try:
                    yield from batch.run(waiting, refill)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    if not out_of_memory(error):
                        raise
                    if limit == 1:
                        raise EngineError(
                            f"out of memory with a single row ({error})".split("\n")[0],
                            hint="use a smaller model or dtype, fewer layers, or device_map='auto'",
                        ) from error
                    waiting.extendleft(row.queued for row in reversed(batch.rows))
                    waiting.extendleft(reversed(batch.entering))
                    limit = max(1, limit // 2)
                    log.warning("out of memory: the batch is halved to %d rows", limit)
                del batch
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        failures.check()

    def open_batch(self) -> LiveBatch:
        """Return a batch that requests join and leave while it runs."""
        return LiveBatch(self)

    def observe(
        self,
        conversation: Conversation,
        *,
        capture: Capture | None = None,
        probes: tuple[Probe, ...] = (),
        plan: Plan | None = None,
        tokens: str = "answer",
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of an existing conversation, without the LM head.

        The means cover the selected tokens of each turn, by default its content. To a plan, the last
        assistant turn with its reasoning is the response, and everything before it the prompt.

        Raises:
            UsageError: If there is no such selection of tokens.
            EngineError: If a layer does not exist, a probe has the wrong width, or the plan cannot act on
                this model or conversation.
            ChatError: If the conversation cannot be rendered.
        """
        request = Request("observe", conversation, plan=plan, capture=capture, probes=probes)
        rendered = self._render(request)
        with torch.inference_mode():
            turns = observe_turns(
                self.loaded.stack,
                self._taps,
                self.loaded.device,
                rendered,
                capture,
                probes,
                plan,
                self._memory,
                tokens,
            )
        check_turns(request, turns, self.loaded.dtype)
        return turns

    def follow(self, *, capture: Capture | None = None, probes: tuple[Probe, ...] = ()) -> Follower:
        """Return a reader of one growing conversation, which reads every message once.

        Errors are raised by the reader, as in ``observe``.
        """
        return Follower(self, capture, probes)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Yield the log-probabilities of given continuations, in batches sorted by length.

        Raises:
            EngineError: If a continuation is empty, or a plan cannot act on this model or conversation.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        failures = Failures(self.loaded.dtype)
        while ahead := [self._to_score(request) for request in islice(source, WINDOW)]:
            with self._taps.attached():
                yield from score_batches(
                    self.loaded.stack,
                    self._taps,
                    ahead,
                    self.prefill_tokens,
                    self.loaded.device,
                    failures,
                    shares=self._memory.keys,
                )
        failures.check()

    def _to_score(self, request: ScoreRequest) -> tuple[ScoreRequest, Queued]:
        if not request.continuation:
            raise EngineError(
                f"request {request.id!r} has no continuation to score", hint="give one token or more"
            )
        queued = self._queue(Request(request.id, request.prompt, plan=request.plan))
        # The last token of the continuation is not fed.
        check_length(request.id, len(queued.prompt) + len(request.continuation) - 1, self._context)
        return request, queued

    def _queue(self, request: Request) -> Queued:
        check_request(request, self.loaded)
        prompt = request.prompt
        if isinstance(prompt[0], int):
            check_reply_parts(f"request {request.id!r}", request.plan, request.tokens, None)
            check_length(request.id, len(prompt), self._context, room=1)
            self._check_gate(request, None)
            return Queued(request, tuple(prompt), TokenSpans(len(prompt)), context=self._context)  # pyright: ignore[reportArgumentType]
        check_characters(request.id, prompt, self._context, self._longest_token)  # pyright: ignore[reportArgumentType]
        rendered = self._chat().render_with_spans(prompt, add_generation_prompt=True)  # pyright: ignore[reportArgumentType]
        check_length(request.id, len(rendered.token_ids), self._context, room=1)
        check_reply_parts(f"request {request.id!r}", request.plan, request.tokens, rendered.reply)
        self._check_gate(request, rendered.reply)
        if request.plan is not None and reply_parts(request.plan) and not self._memory.keeps:
            raise EngineError(
                f"request {request.id!r} acts on a part of the response, and this model keeps nothing of "
                "earlier tokens: a step passes the whole response",
                hint="act on the whole response",
            )
        extent = TokenSpans(len(rendered.token_ids), tuple(span.start for span in rendered.spans))
        turns = tuple((span.start, span.end) for span in rendered.spans)
        return Queued(request, rendered.token_ids, extent, turns, rendered.reply, self._context)

    def _check_gate(self, request: Request, reply: ReplyFormat | None) -> None:
        gate = check_gate(request, self.loaded, reply)
        if gate is not None and not self._memory.keeps:
            raise EngineError(
                f"the gate switches a plan on; {self.loaded.model_id} keeps nothing of the tokens before it",
                hint="give the request its plan from the start",
            )

    def _render(self, request: Request) -> Rendered:
        """Render an existing conversation after checking its request."""
        check_request(request, self.loaded)
        conversation = cast("Conversation", request.prompt)
        check_characters(request.id, conversation, self._context, self._longest_token)
        rendered = self._chat().render_with_spans(conversation, add_generation_prompt=False)
        check_length(request.id, len(rendered.token_ids), self._context)
        return rendered

    @cached_property
    def _memory(self) -> ModelMemory:
        """Kind of memory of the model's rows, determined on first use."""
        return ModelMemory(self.loaded.model, self.loaded.stack, self.loaded.device)

    @cached_property
    def _longest_token(self) -> int:
        """Number of characters of the vocabulary's longest token, which bounds a text's tokens from below."""
        return max(map(len, self.loaded.tokenizer.get_vocab()))


def _context(loaded: LoadedModel) -> int | None:
    """Return the context length in tokens, under any of its names in the config; None if there is none."""
    config = loaded.model.config.get_text_config(decoder=True)
    names = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
    return next((int(size) for name in names if (size := getattr(config, name, None)) and size > 0), None)
