"""Build the completion of a row: text, parts, means and projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from personascope.chat import ReplySpan, TurnSpan
from personascope.engines._contract import Completion, FinishReason, TriggeredPlan
from personascope.engines._parts import Span, reply_spans, reply_text
from personascope.engines._stop import before_stop_string
from personascope.engines._transformers._capture import StepReader
from personascope.engines._transformers._choice import ModelMemory
from personascope.engines._transformers._observe import Part, SpanReader, parts_of, read_parts
from personascope.engines._transformers._rows import Row
from personascope.engines._transformers._taps import ForwardHooks
from personascope.interventions import CapCounters, acts_on_response
from personascope.models import LoadedModel


@dataclass(frozen=True, slots=True, eq=False)
class RowFinisher:
    """Builder of completions from the rows of a batch.

    Attributes:
        loaded: Model of the rows.
        taps: Attached forward hooks of the model.
        memory: Kind of memory that the model's rows run in.
        reader: Reader with the rows' sums.
        counters: Cap counters of the rows.
    """

    loaded: LoadedModel
    taps: ForwardHooks
    memory: ModelMemory
    reader: StepReader
    counters: CapCounters

    def stops(self, row: Row, stops: Sequence[str]) -> bool:
        """Return whether the answer of a row contains a stop text."""
        if not stops:
            return False
        text = self.loaded.tokenizer.decode(_answer_so_far(row))
        return any(stop in text for stop in stops)

    def __call__(self, row: Row, reason: FinishReason, place: int | None, stops: Sequence[str]) -> Completion:
        """Return the completion of a row that ended.

        Args:
            row: Row that ended.
            reason: Reason why it ended.
            place: Slot of the row in the batch; None if it ended with its first token.
            stops: Stop texts of the request.
        """
        request = row.queued.request
        tokens = list(row.tokens)
        cut: tuple[str, list[int]] | None = None
        if reason == "stop" and self.stops(row, stops):
            # Tokens before the answer are not searched for stop texts.
            head = len(tokens) - len(_answer_so_far(row))
            cut = before_stop_string(self.loaded.tokenizer, tokens[head:], stops)
            tokens = tokens[:head] + cut[1]
        spans: tuple[ReplySpan, ...] | None = None
        text = str(self.loaded.tokenizer.decode(tokens, skip_special_tokens=True))
        reasoning = calls = ""
        reply = row.queued.reply
        if reply is not None:
            reader = reply.reader()
            for token in tokens:
                reader.feed(token)
            if reader.marked:
                spans = reader.spans
                reasoning, text, calls = (
                    reply_text(reply, tokens, spans, part) for part in ("thinking", "answer", "tool_calls")
                )
        if cut is not None:
            text = cut[0]
        chosen = self._chosen(row, spans, len(tokens))
        pooled, projections = self._read(row, tokens, chosen, place, anew=cut is not None)
        plan = request.plan
        counts = row.counts
        gate: TriggeredPlan | None = None
        if row.acting is not None and place is not None:
            newest = row.newest(self.counters, place)
            if row.gate is not None:
                told = (row.gate_counts + newest).stats(row.acting)
                gate = TriggeredPlan(row.gate_from, row.gate.digest, told)
            if plan is not None and acts_on_response(plan):
                counts = counts + newest
        return Completion(
            id=request.id,
            text=text,
            token_ids=tuple(tokens),
            finish_reason=reason,
            prompt_tokens=len(row.queued.prompt),
            pooled=pooled,
            token_count=sum(end - start for start, end in chosen),
            projections=projections,
            plan_digest=None if plan is None else plan.digest,
            cap_stats=None if plan is None else counts.stats(plan),
            gate=gate,
            # The logprobs include the token that ended the response, which is not part of it.
            logprobs=np.array(row.logprobs[: len(tokens)], np.float32) if request.logprobs else None,
            spans=spans or (),
            reasoning=reasoning.strip(),
            tool_calls=calls.strip(),
        )

    def _chosen(self, row: Row, spans: Sequence[ReplySpan] | None, length: int) -> list[Span]:
        """Return the spans of the tokens that a row's request selects, counted from the prompt's first."""
        wanted, prompt = row.queued.request.tokens, len(row.queued.prompt)
        if wanted == "all":
            return [(0, prompt + length)]
        if wanted == "prompt":
            return [(0, prompt)]
        if wanted.startswith("turn:"):
            turn = row.queued.turns[int(wanted.removeprefix("turn:"))]
            return [turn] if turn[0] < turn[1] else []
        return [(prompt + start, prompt + end) for start, end in reply_spans(spans, length, wanted)]

    def _read(
        self, row: Row, tokens: list[int], chosen: Sequence[Span], place: int | None, *, anew: bool
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Return the means and projections of chosen tokens."""
        request, prompt = row.queued.request, len(row.queued.prompt)
        layers = (
            () if request.capture is None else request.capture.layers or tuple(range(self.loaded.n_layers))
        )
        empty = {probe.name: np.zeros(0, np.float32) for probe in request.probes}
        if not chosen or not (layers or request.probes):
            return None, empty
        places = [at - prompt for start, end in chosen for at in range(start, end)]
        seen = [at for at in range(row.fed) if row.counted_at(at)]
        if places != seen or anew or place is None:
            # A mark is known only once it is complete, and the prompt has passed: the row is read again.
            if chosen[0][0] < prompt or layers or places[-1] >= len(row.projections):
                return self._again(row, tuple(tokens), chosen, layers)
            pooled = None
        else:
            pooled = self.reader.mean(place, list(layers), len(places)) if layers else None
        return pooled, {
            probe.name: np.array([row.projections[at][number] for at in places], dtype=np.float32)
            for number, probe in enumerate(request.probes)
        }

    def _again(
        self, row: Row, tokens: tuple[int, ...], chosen: Sequence[Span], layers: tuple[int, ...]
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        """Feed a row again, and return the mean over the chosen tokens and their projections."""
        request, prompt = row.queued.request, row.queued.prompt
        spans = [TurnSpan(number, "assistant", *span) for number, span in enumerate(chosen)]
        reader = SpanReader(list(chosen), layers, request.probes)
        ids = prompt + tokens
        begins = [(0, "prompt")]
        for number, part in enumerate(row.parts[: len(tokens)] or ["answer"]):
            if part != begins[-1][1] or number == 0:
                begins.append((len(prompt) + number, part))
        cut = len(ids) if row.gate is None else min(len(ids), len(prompt) + row.gate_from)
        parts = parts_of(ids[:cut], [b for b in begins if b[0] < cut], request.plan)
        after = [b for b in begins if b[0] >= cut]
        inside = [(cut, part) for begin, part in begins if begin < cut][-1:]
        if cut < len(ids):
            begins = after if after and after[0][0] == cut else [*inside, *after]
            parts += parts_of(ids, begins, row.acting, cut)
        read_parts(
            self.loaded.stack,
            self.taps,
            self.loaded.device,
            [Part(part.ids, part.start, part.plan) for part in parts if part.ids],
            reader,
            row.queued.extent,
            self.memory,
        )
        turns = reader.turns(spans)
        counts = [turn.token_count for turn in turns]
        pooled = None
        if layers:
            means = [
                turn.pooled * count
                for turn, count in zip(turns, counts, strict=True)
                if turn.pooled is not None
            ]
            pooled = (
                (np.sum(means, axis=0) / sum(counts)).astype(np.float32)
                if len(turns) > 1
                else turns[0].pooled
            )
        return pooled, {
            probe.name: np.concatenate([turn.projections[probe.name] for turn in turns])
            for probe in request.probes
        }


def _answer_so_far(row: Row) -> list[int]:
    """Return the answer tokens at the end of a row, back to the mark before them."""
    if row.reader is None or not row.reader.marked:
        return row.tokens
    start = len(row.tokens)
    while start and row.reader.kinds[start - 1] == "answer":
        start -= 1
    return row.tokens[start:]
