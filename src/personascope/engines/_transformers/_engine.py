"""Generation with pooled activations in one pass, on Transformers.

Rows run side by side; one that ends is dropped at that step and its place refilled, so a long
response holds nothing up. Where activations are read, a response's last token is fed once more before
the row ends, so the mean covers every response token; the end-of-turn token is neither fed nor counted.
"""

from __future__ import annotations

import logging
import platform
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from itertools import islice

import numpy as np
import torch

import personascope
from personascope.chat import ChatFormat, ChatOptions, Conversation, TranscriptFormat
from personascope.engines._checks import check_request
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    FinishReason,
    Probe,
    Request,
    Scored,
    ScoreRequest,
    TurnActivations,
)
from personascope.engines._parts import check_reply_parts
from personascope.engines._sampling import draw
from personascope.engines._texts import Texts
from personascope.engines._transformers._attention import use_grouped_attention
from personascope.engines._transformers._cache import SlotCache, keeps_keys_alone
from personascope.engines._transformers._capture import StepReader, layers_wanted
from personascope.engines._transformers._complete import RowFinisher
from personascope.engines._transformers._follow import Follower
from personascope.engines._transformers._observe import observe_turns
from personascope.engines._transformers._prefill import Entry, entry_of, plan_table, prefill
from personascope.engines._transformers._rows import Queued, Row, new_row
from personascope.engines._transformers._score import score_batches
from personascope.engines._transformers._taps import ForwardHooks, StopForward
from personascope.engines._transformers._watch import ask_watches
from personascope.errors import EngineError
from personascope.interventions import BatchedPlans, Counters, Plan, PlanTable, TokenSpans, plan_for_part
from personascope.models import LoadedModel

log = logging.getLogger(__name__)

WINDOW = 1024
"""Requests read ahead, so that prompts that share a prefix come together."""


class TransformersEngine(Texts[LoadedModel]):
    """The ``Engine`` contract on a model of Transformers.

    Requests that share a prefix (a system prompt) or a whole prompt pay for it once. When memory
    runs out, the running rows go back to the queue, the batch is halved, and they are generated
    anew with the same draws.
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
            loaded: From ``personascope.models.load``.
            max_batch: Rows that run side by side, at most.
            prefill_tokens: Prompt tokens, padding included, of one forward pass at most.
            chat: Format of conversations instead of the model's own, for example
                ``ChatFormat.transcript(tokenizer)`` for a base model.
        """
        self.loaded = self.files = loaded
        self.chat = chat or loaded.chat
        self.max_batch = max_batch
        self.prefill_tokens = prefill_tokens
        self._taps = ForwardHooks(loaded.stack.blocks)
        use_grouped_attention(loaded.model)
        self._shares = keeps_keys_alone(loaded.model)

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
            context=_context(loaded),
            **self._chat_info(),
        )

    def with_transcript(self) -> TransformersEngine:
        """Return an engine on the same model that writes conversations as a plain transcript."""
        return TransformersEngine(
            self.loaded,
            max_batch=self.max_batch,
            prefill_tokens=self.prefill_tokens,
            chat=self._transcript_chat(),
        )

    def with_chat(self, options: ChatOptions) -> TransformersEngine:
        """Return an engine on the same model whose chat template is rendered with other options.

        Raises:
            ChatError: If the model has no chat template, or that has no such variable.
        """
        chat = self._chat_with(options)
        return (
            self
            if chat is self.chat
            else TransformersEngine(
                self.loaded, max_batch=self.max_batch, prefill_tokens=self.prefill_tokens, chat=chat
            )
        )

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded as they end.

        Raises:
            EngineError: If a request cannot be honoured (a layer that the model does not have, a plan
                of another model), or memory runs out with a single row.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        waiting: deque[Queued] = deque()
        limit = self.max_batch
        with self._taps.attached():
            while True:
                if len(waiting) < limit:
                    ahead = [self._queue(request) for request in islice(source, WINDOW)]
                    waiting.extend(sorted(ahead, key=lambda queued: queued.prompt))
                    if not waiting:
                        return
                batch = _Batch(self, limit)
                try:
                    yield from batch.run(waiting, source)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    if not _out_of_memory(error):
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

        The means cover the content tokens of each turn: for a response those that ``run`` counts.
        To a plan, the last assistant turn is the response, its reasoning with it, and what precedes it the
        prompt.

        Raises:
            UsageError: If there is no such selection of tokens.
            EngineError: If a layer does not exist, a probe has another width, or the plan cannot act on
                this model or conversation.
            ChatError: If the conversation cannot be rendered.
        """
        request = Request("observe", conversation, plan=plan, capture=capture, probes=probes)
        check_request(request, self.loaded)
        rendered = self._chat().render_with_spans(conversation, add_generation_prompt=False)
        with torch.inference_mode():
            return observe_turns(
                self.loaded.stack, self._taps, self.loaded.device, rendered, capture, probes, plan, tokens
            )

    def follow(self, *, capture: Capture | None = None, probes: tuple[Probe, ...] = ()) -> Follower:
        """Return a reader of one conversation that grows, which reads every message once.

        Raises:
            EngineError: Later, from the reader, as ``observe``.
        """
        return Follower(self, capture, probes)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Scored]:
        """Return the log-probabilities of given continuations, in batches sorted by length.

        Raises:
            EngineError: If a continuation is empty, or a plan cannot act on this model or conversation.
            ChatError: If a conversation cannot be rendered.
        """
        source = iter(requests)
        while ahead := [self._to_score(request) for request in islice(source, WINDOW)]:
            with self._taps.attached():
                yield from score_batches(
                    self.loaded.stack,
                    self._taps,
                    ahead,
                    self.prefill_tokens,
                    self.loaded.device,
                    shares=self._shares,
                )

    def _to_score(self, request: ScoreRequest) -> tuple[ScoreRequest, Queued]:
        if not request.continuation:
            raise EngineError(
                f"request {request.id!r} has no continuation to score", hint="give one token or more"
            )
        return request, self._queue(Request(request.id, request.prompt, plan=request.plan))

    def _queue(self, request: Request) -> Queued:
        check_request(request, self.loaded)
        prompt = request.prompt
        if isinstance(prompt[0], int):
            check_reply_parts(f"request {request.id!r}", request.plan, request.tokens, None)
            return Queued(request, tuple(prompt), TokenSpans(len(prompt)))  # pyright: ignore[reportArgumentType]
        rendered = self._chat().render_with_spans(prompt, add_generation_prompt=True)  # pyright: ignore[reportArgumentType]
        check_reply_parts(f"request {request.id!r}", request.plan, request.tokens, rendered.reply)
        extent = TokenSpans(len(rendered.token_ids), tuple(span.start for span in rendered.spans))
        turns = tuple((span.start, span.end) for span in rendered.spans)
        return Queued(request, rendered.token_ids, extent, turns, rendered.reply)


class _Batch:
    """Rows that run side by side until the queue is empty (or memory is)."""

    def __init__(self, engine: TransformersEngine, limit: int) -> None:
        self.engine = engine
        self.loaded = engine.loaded
        self.stack = engine.loaded.stack
        self.limit = limit
        self.rows: list[Row] = []
        self.entering: list[Queued] = []
        self.cache = SlotCache(self.stack.n_layers, limit)
        self.reader = StepReader(limit, self.stack.d_model)
        self.counters = Counters(limit)
        self.table: PlanTable | None = None
        self.editor: BatchedPlans | None = None
        self.finish = RowFinisher(self.loaded, engine._taps, self.reader, self.counters)
        self.eos = torch.tensor(sorted(self.loaded.eos_token_ids), device=self.loaded.device)

    def run(self, waiting: deque[Queued], source: Iterator[Request]) -> Iterator[Completion]:
        taps = self.engine._taps
        while self.rows or waiting:
            free = self.limit - len(self.rows)
            # Prompts are taken in by the quarter batch: a pass with few rows costs nearly as much.
            if waiting and (not self.rows or free >= max(1, self.limit // 4)):
                self.entering = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                with torch.inference_mode():
                    done = self._admit()
                yield from done
                if len(waiting) < self.limit:
                    ahead = [self.engine._queue(request) for request in islice(source, WINDOW)]
                    waiting.extend(sorted(ahead, key=lambda queued: queued.prompt))
            if not self.rows:
                continue
            with torch.inference_mode():
                done = self._step()
            taps.reader = taps.editor = taps.last = None
            yield from done

    def _admit(self) -> list[Completion]:
        """Pass the entering prompts through the model, draw their first tokens, start their rows."""
        self.engine._taps.reader = None
        by_entry: dict[Entry, list[Queued]] = {}
        for queued in self.entering:
            plan = queued.request.plan
            of_prompt = None if plan is None else plan_for_part(plan, "prompt")
            entry = entry_of(queued.prompt, of_prompt, queued.extent)
            by_entry.setdefault(entry, []).append(queued)
        done: list[Completion] = []
        engine = self.engine
        for part in prefill(
            self.stack, engine._taps, list(by_entry), engine.prefill_tokens, self.loaded.device
        ):
            rows: list[Row] = []
            spans: list[tuple[int, int, int]] = []
            states: list[int] = []
            for number, (entry, span) in enumerate(zip(part.prompts, part.spans, strict=True)):
                for queued in by_entry[entry]:
                    rows.append(new_row(queued, part.tallies[number]))
                    spans.append(span)
                    states.append(number)
            logits = self.stack.logits(part.hidden[:, None])[:, 0]
            tokens = self._draw(rows, logits[torch.tensor(states, device=logits.device)])
            alive = [index for index, token in enumerate(tokens) if token not in self.loaded.eos_token_ids]
            gone = set(range(len(rows))) - set(alive)
            started = {id(rows[index].queued) for index in range(len(rows))}
            if alive:
                self.cache.admit(part.cache, [spans[index] for index in alive])
                for index in alive:
                    rows[index].take(tokens[index])
                    self.reader.clear(len(self.rows))
                    self.counters.clear(len(self.rows))
                    self.rows.append(rows[index])
            done += [self._completion(rows[index], "stop", None) for index in sorted(gone)]
            self.entering = [queued for queued in self.entering if id(queued) not in started]
        self._rows_changed()
        return done

    def _step(self) -> list[Completion]:
        """Feed every row's newest token; draw the next one or end the row."""
        device = self.loaded.device
        self._parts_changed()
        self.reader.begin_step()
        self.cache.prepare_step()
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        places = torch.tensor([[row.position] for row in self.rows], device=device)
        state: torch.Tensor | None = None
        taps = self.engine._taps
        taps.reader, taps.editor, taps.last = self.reader, self.editor, self._last_layer()
        with suppress(StopForward):
            state = self.stack.backbone(
                input_ids=ids,
                attention_mask=self.cache.mask(device),
                position_ids=places,
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state
        self.cache.advance()
        self.reader.finish_step()
        self.counters.finish()
        for row in self.rows:
            row.fed += 1
        stopped, gated = ask_watches(self.rows, self.counters, self.loaded)
        ended: list[tuple[int, FinishReason]] = [
            (index, "alarm" if index in stopped else "length")
            for index, row in enumerate(self.rows)
            if row.full or index in stopped
        ]
        over = {index for index, _ in ended}
        going = [index for index in range(len(self.rows)) if index not in over]
        if going:
            assert state is not None
            if ended:
                state = state[torch.tensor(going, device=state.device)]
            drawn = self._draw([self.rows[index] for index in going], self.stack.logits(state[:, -1:])[:, 0])
            for index, token in zip(going, drawn, strict=True):
                row = self.rows[index]
                if token in self.loaded.eos_token_ids:
                    ended.append((index, "stop"))
                    continue
                row.take(token)
                if self._stop_string(row):
                    ended.append((index, "stop"))
                elif row.full and not row.watched:
                    ended.append((index, "length"))
        done = [self._completion(self.rows[index], reason, index) for index, reason in ended]
        for index, _ in sorted(ended, reverse=True):
            last = self.cache.remove(index)
            self.reader.move(last, index)
            self.counters.move(last, index)
            self.rows[index] = self.rows[last]
            self.rows.pop()
        if ended or gated:
            self._rows_changed()
        return done

    def _parts_changed(self) -> None:
        """Let other operations act where a row's next token is of another part of its response."""
        changed = False
        for place, row in enumerate(self.rows):
            if row.acting is not None and row.plan is not row.ran:
                row.fold(self.counters, place)
                changed = True
        if changed:
            self._rows_changed()

    def _last_layer(self) -> int | None:
        """Return where the next step may break off: nobody draws from a pass of last tokens alone."""
        if not all(row.full for row in self.rows):
            return None
        acting = frozenset[int]() if self.editor is None else self.editor.layers
        return max(self.engine._taps.layers | acting)

    def _rows_changed(self) -> None:
        self.reader.set_rows(self.rows)
        requests = [row.queued.request for row in self.rows]
        self.engine._taps.layers = layers_wanted(requests, self.stack.n_layers)
        plans = [row.plan for row in self.rows]
        for row, plan in zip(self.rows, plans, strict=True):
            row.ran = plan
        wanted = {plan.digest for plan in plans if plan is not None}
        if not wanted:
            self.editor = None
            return
        # Plans whose rows ended stay in the table until another plan comes in.
        if self.table is None or not wanted <= self.table.places.keys():
            self.table = plan_table(plans, response_only=True)
        assert self.table is not None
        self.editor = BatchedPlans(self.table, plans, self.counters)

    def _draw(self, rows: list[Row], logits: torch.Tensor) -> list[int]:
        device = logits.device
        sampling = [row.queued.request.sampling for row in rows]
        plain = logits
        early = [i for i, row in enumerate(rows) if len(row.tokens) < sampling[i].min_new_tokens]
        if early:
            logits = logits.clone()
            logits[torch.tensor(early, device=device)[:, None], self.eos.to(device)[None, :]] = -torch.inf
        tokens = draw(
            logits,
            torch.tensor([s.temperature for s in sampling], device=device),
            torch.tensor([s.top_p for s in sampling], device=device),
            torch.tensor(np.array([row.uniform[len(row.tokens)] for row in rows]), device=device),
        )
        asked = [i for i, row in enumerate(rows) if row.queued.request.logprobs]
        if asked:
            places = torch.tensor(asked, device=device)
            wanted = plain[places].float()
            drawn = wanted.gather(-1, tokens[places][:, None])[:, 0] - wanted.logsumexp(-1)
            for index, value in zip(asked, drawn.tolist(), strict=True):
                rows[index].logprobs.append(value)
        return tokens.tolist()

    def _stop_string(self, row: Row) -> bool:
        return self.finish.stops(row, self.engine._stops(row.queued.request))

    def _completion(self, row: Row, reason: FinishReason, place: int | None) -> Completion:
        return self.finish(row, reason, place, self.engine._stops(row.queued.request))


def _context(loaded: LoadedModel) -> int | None:
    """Return the tokens that a model was made to read, by whichever name its configuration has for it."""
    config = loaded.model.config.get_text_config(decoder=True)
    names = ("max_position_embeddings", "n_positions", "n_ctx")
    return next((int(getattr(config, name)) for name in names if getattr(config, name, None)), None)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
