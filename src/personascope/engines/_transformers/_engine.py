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
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import torch

from personascope.chat import ChatFormat, Conversation, TranscriptFormat
from personascope.engines._contract import (
    Capture,
    Completion,
    EngineInfo,
    FinishReason,
    Probe,
    Request,
    TurnActivations,
)
from personascope.engines._transformers._attention import use_grouped_attention
from personascope.engines._transformers._cache import SlotCache
from personascope.engines._transformers._capture import StepReader, layers_wanted
from personascope.engines._transformers._checks import check_request
from personascope.engines._transformers._observe import observe_turns, pool_span
from personascope.engines._transformers._prefill import prefill
from personascope.engines._transformers._rows import Queued, Row, new_row
from personascope.engines._transformers._sampling import draw
from personascope.engines._transformers._taps import Taps
from personascope.errors import ChatError, EngineError
from personascope.models import LoadedModel, load

log = logging.getLogger(__name__)

WINDOW = 1024
"""Requests read ahead, so that prompts that share a prefix come together."""


def native_dtype(device: str | None = None) -> str:
    """Return bfloat16, or float32 on a CPU that has no bfloat16 arithmetic.

    Such a CPU converts every number of a bfloat16 product, and is several times slower than with
    float32 (benchmarks/dtype.md).
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not device.startswith("cpu"):
        return "bfloat16"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def load_engine(
    name: str, *, dtype: str = "auto", device: str | None = None, **options: Any
) -> TransformersEngine:
    """Load a model by name and put the engine around it.

    Args:
        name: Hub id, folder, GGUF file or embedded name, as ``personascope.models.resolve`` takes it.
        dtype: "auto" (``native_dtype``), "bfloat16", "float32" or "float16".
        device: As ``personascope.models.load``.
        options: ``max_batch`` and ``prefill_tokens`` for the engine, the rest for ``load``.
    """
    engine = {key: options.pop(key) for key in ("max_batch", "prefill_tokens") if key in options}
    if dtype == "auto":
        dtype = native_dtype(device)
    return TransformersEngine(load(name, dtype=dtype, device=device, **options), **engine)  # pyright: ignore[reportArgumentType]


class TransformersEngine:
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
        self.loaded = loaded
        self.chat = chat or loaded.chat
        self.max_batch = max_batch
        self.prefill_tokens = prefill_tokens
        self._taps = Taps(loaded.stack.blocks)
        use_grouped_attention(loaded.model)

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
            versions={name: version(name) for name in ("personascope", "torch", "transformers")}
            | {"python": platform.python_version()},
        )

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the length of the rendered prompt."""
        return len(self._render(conversation))

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Generate a completion for every request, yielded as they end.

        Raises:
            EngineError: If a request cannot be honoured (a plan, a layer that the model does not
                have), or memory runs out with a single row.
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
                            mend="use a smaller model or dtype, fewer layers, or device_map='auto'",
                        ) from error
                    waiting.extendleft(row.queued for row in reversed(batch.rows))
                    waiting.extendleft(reversed(batch.entering))
                    limit = max(1, limit // 2)
                    log.warning("out of memory: the batch is halved to %d rows", limit)
                del batch
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def observe(
        self, conversation: Conversation, *, capture: Capture | None = None, probes: tuple[Probe, ...] = ()
    ) -> list[TurnActivations]:
        """Pool the activations of every turn of an existing conversation, without the LM head.

        The means cover the content tokens of each turn: for a response those that ``run`` counts.

        Raises:
            EngineError: If a layer does not exist or a probe has another width.
            ChatError: If the conversation cannot be rendered.
        """
        check_request(Request("observe", conversation, capture=capture, probes=probes), self.loaded)
        if self.chat is None:
            raise self._no_template()
        rendered = self.chat.render_with_spans(conversation, add_generation_prompt=False)
        with torch.inference_mode():
            return observe_turns(self.loaded.stack, self._taps, self.loaded.device, rendered, capture, probes)

    def _queue(self, request: Request) -> Queued:
        check_request(request, self.loaded)
        prompt = request.prompt
        ids = tuple(prompt) if prompt and isinstance(prompt[0], int) else self._render(prompt)  # pyright: ignore[reportArgumentType]
        return Queued(request, ids)  # pyright: ignore[reportArgumentType]

    def _render(self, conversation: Conversation) -> tuple[int, ...]:
        if self.chat is None:
            raise self._no_template()
        return tuple(self.chat.render(conversation))

    def _no_template(self) -> ChatError:
        return ChatError(
            f"{self.loaded.model_id} has no chat template, and a conversation needs one",
            mend="use an instruct model, or pass token ids",
        )


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
            taps.reader = self.reader
            with torch.inference_mode():
                done = self._step()
            taps.reader = None
            yield from done

    def _admit(self) -> list[Completion]:
        """Pass the entering prompts through the model, draw their first tokens, start their rows."""
        self.engine._taps.reader = None
        by_prompt: dict[tuple[int, ...], list[Queued]] = {}
        for queued in self.entering:
            by_prompt.setdefault(queued.prompt, []).append(queued)
        done: list[Completion] = []
        for part in prefill(self.stack, list(by_prompt), self.engine.prefill_tokens, self.loaded.device):
            rows: list[Row] = []
            spans: list[tuple[int, int, int]] = []
            states: list[int] = []
            for number, (prompt, span) in enumerate(zip(part.prompts, part.spans, strict=True)):
                for queued in by_prompt[prompt]:
                    rows.append(new_row(queued))
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
                    rows[index].tokens.append(tokens[index])
                    self.reader.clear(len(self.rows))
                    self.rows.append(rows[index])
            done += [self._completion(rows[index], "stop", None) for index in sorted(gone)]
            self.entering = [queued for queued in self.entering if id(queued) not in started]
        self._rows_changed()
        return done

    def _step(self) -> list[Completion]:
        """Feed every row's newest token; draw the next one or end the row."""
        device = self.loaded.device
        self.cache.prepare_step()
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=device)
        places = torch.tensor([[row.position] for row in self.rows], device=device)
        output = self.stack.backbone(
            input_ids=ids,
            attention_mask=self.cache.mask(device),
            position_ids=places,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache.advance()
        self.reader.finish_step()
        for row in self.rows:
            row.fed += 1
        going = [index for index, row in enumerate(self.rows) if not row.full]
        ended: list[tuple[int, FinishReason]] = []
        ended.extend((index, "length") for index, row in enumerate(self.rows) if row.full)
        if going:
            state = output.last_hidden_state
            if ended:
                state = state[torch.tensor(going, device=state.device)]
            drawn = self._draw([self.rows[index] for index in going], self.stack.logits(state[:, -1:])[:, 0])
            for index, token in zip(going, drawn, strict=True):
                row = self.rows[index]
                if token in self.loaded.eos_token_ids:
                    ended.append((index, "stop"))
                    continue
                row.tokens.append(token)
                if self._stop_string(row):
                    ended.append((index, "stop"))
                elif row.full and not row.watched:
                    ended.append((index, "length"))
        done = [self._completion(self.rows[index], reason, index) for index, reason in ended]
        for index, _ in sorted(ended, reverse=True):
            last = self.cache.remove(index)
            self.reader.move(last, index)
            self.rows[index] = self.rows[last]
            self.rows.pop()
        if ended:
            self._rows_changed()
        return done

    def _rows_changed(self) -> None:
        self.reader.set_rows(self.rows)
        requests = [row.queued.request for row in self.rows]
        self.engine._taps.layers = layers_wanted(requests, self.stack.n_layers)

    def _draw(self, rows: list[Row], logits: torch.Tensor) -> list[int]:
        device = logits.device
        sampling = [row.queued.request.sampling for row in rows]
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
        return tokens.tolist()

    def _stop_string(self, row: Row) -> bool:
        chat = self.engine.chat
        if chat is None or not chat.stop_strings or not isinstance(row.queued.request.prompt, tuple):
            return False
        if row.queued.request.prompt and isinstance(row.queued.request.prompt[0], int):
            return False
        text = self.loaded.tokenizer.decode(row.tokens)
        return any(stop in text for stop in chat.stop_strings)

    def _completion(self, row: Row, reason: FinishReason, place: int | None) -> Completion:
        request = row.queued.request
        tokens = list(row.tokens)
        text = str(self.loaded.tokenizer.decode(tokens, skip_special_tokens=True))
        projections = row.projections
        pooled = None
        if reason == "stop" and self._stop_string(row):
            # Part of the stop string was fed before it could be known: the mean is made anew.
            text, tokens = self._before_stop_string(tokens)
            projections = projections[: len(tokens)]
            if request.capture is not None and tokens:
                pooled = pool_span(
                    self.stack,
                    self.engine._taps,
                    self.loaded.device,
                    row.queued.prompt,
                    tuple(tokens),
                    request,
                )
        elif request.capture is not None and tokens and place is not None:
            layers = request.capture.layers or tuple(range(self.stack.n_layers))
            pooled = self.reader.mean(place, list(layers), len(tokens))
        return Completion(
            id=request.id,
            text=text,
            token_ids=tuple(tokens),
            finish_reason=reason,
            prompt_tokens=len(row.queued.prompt),
            pooled=pooled,
            token_count=len(tokens),
            projections={
                probe.name: np.array([step[number] for step in projections], dtype=np.float32)
                for number, probe in enumerate(request.probes)
            },
        )

    def _before_stop_string(self, tokens: list[int]) -> tuple[str, list[int]]:
        assert self.engine.chat is not None
        decode = self.loaded.tokenizer.decode
        for length in range(len(tokens), -1, -1):
            text = str(decode(tokens[:length], skip_special_tokens=True))
            if not any(stop in text for stop in self.engine.chat.stop_strings):
                return text, tokens[:length]
        return "", []


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
