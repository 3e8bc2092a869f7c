"""A batch of rows that are generated together: steps, ends of rows, and completions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from personascope.engines._contract import Completion, FinishReason, Request
from personascope.engines._sampling import draw
from personascope.engines._transformers._capture import StepReader, layers_wanted
from personascope.engines._transformers._choice import ModelMemory
from personascope.engines._transformers._complete import RowFinisher
from personascope.engines._transformers._finite import Failures, finite_rows
from personascope.engines._transformers._prefill import Entry, Prefilled, entry_of, plan_table
from personascope.engines._transformers._rows import Queued, Row, new_row
from personascope.engines._transformers._taps import ForwardHooks, StopForward
from personascope.engines._transformers._watch import ask_watches
from personascope.errors import EngineError
from personascope.interventions import BatchedPlans, CapCounters, PlanTable, plan_for_part
from personascope.models import LoadedModel


@dataclass(frozen=True, slots=True, eq=False)
class Ended:
    """A row that ended, with its completion; None if its values were not finite."""

    row: Row
    completion: Completion | None


class Batch:
    """Batch of rows that run together until the queue is empty or memory runs out.

    Attributes:
        rows: Running rows.
        entering: Requests that were taken from the queue and have no row yet.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        taps: ForwardHooks,
        memory: ModelMemory,
        stops: Callable[[Request], tuple[str, ...]],
        failures: Failures,
        *,
        limit: int,
        budget: int,
    ) -> None:
        """Begin without rows.

        Args:
            loaded: Model to run.
            taps: Attached forward hooks of the model.
            memory: Kind of memory that the model's rows run in.
            stops: Function that returns the stop texts of a request.
            failures: Collector of requests whose values are not finite.
            limit: Maximum number of rows.
            budget: Maximum number of prompt tokens, padding included, in one forward pass.
        """
        self.loaded = loaded
        self.stack = loaded.stack
        self.taps = taps
        self.stops = stops
        self.failures = failures
        self.limit = limit
        self.rows: list[Row] = []
        self.entering: list[Queued] = []
        self.memory = memory.start(self.stack, taps, budget, loaded.device, limit)
        self.reader = StepReader(limit, self.stack.d_model)
        self.counters = CapCounters(limit)
        self.table: PlanTable | None = None
        self.editor: BatchedPlans | None = None
        self.finish = RowFinisher(loaded, taps, memory, self.reader, self.counters)
        self.eos = torch.tensor(sorted(self.loaded.eos_token_ids), device=self.loaded.device)

    def run(self, waiting: deque[Queued], refill: Callable[[], None]) -> Iterator[Completion]:
        """Run the requests in the queue, to which ``refill`` adds more from the source."""
        while self.rows or waiting:
            # Prompts are admitted in quarter batches, because a pass with few rows costs nearly as much.
            done = self.enter(waiting, room=max(1, self.limit // 4))
            if done is not None:
                yield from _completions(done)
                refill()
            yield from _completions(self.advance())

    def enter(self, waiting: deque[Queued], *, room: int = 1) -> list[Ended] | None:
        """Start rows for requests in the queue; return those that ended at once, or None if none started.

        Args:
            waiting: Queue, from which the requests are taken.
            room: Number of free places that there must be while rows run.
        """
        free = self.limit - len(self.rows)
        if not waiting or (self.rows and free < room):
            return None
        self.entering = self.memory.choose(waiting, free, len(self.rows))
        if not self.entering:
            return None
        with torch.inference_mode():
            return self._admit()

    def advance(self) -> list[Ended]:
        """Pass the newest token of every row through the model; return the rows that ended."""
        if not self.rows:
            return []
        taps = self.taps
        with torch.inference_mode():
            self._parts_changed()
            taps.reader, taps.editor, taps.last = self.reader, self.editor, self._last_layer()
            taps.before = self.reader.before if self.reader.reads_before else None
            done = self._step()
        taps.reader = taps.editor = taps.last = taps.before = None
        return done

    def drop(self, row: Row) -> None:
        """End a running row without a completion."""
        with torch.inference_mode():
            self._remove([self.rows.index(row)])
            self._rows_changed()

    def _admit(self) -> list[Ended]:
        """Pass the entering prompts through the model, draw their first tokens, and start their rows."""
        self.taps.reader = self.taps.before = None
        by_entry: dict[Entry, list[Queued]] = {}
        for queued in self.entering:
            plan = queued.request.plan
            of_prompt = None if plan is None else plan_for_part(plan, "prompt")
            entry = entry_of(queued.prompt, of_prompt, queued.extent)
            by_entry.setdefault(entry, []).append(queued)
        done: list[Ended] = []
        for part in self.memory.prefill(list(by_entry)):
            rows = [
                (new_row(queued, part.cap_counts[number]), number)
                for number, entry in enumerate(part.prompts)
                for queued in by_entry[entry]
            ]
            done += self._start(part, rows)
            started = {id(row.queued) for row, _ in rows}
            self.entering = [queued for queued in self.entering if id(queued) not in started]
        self._rows_changed()
        return done

    def _start(self, part: Prefilled, rows: list[tuple[Row, int]]) -> list[Ended]:
        """Draw the first tokens of rows (row, index of its prompt), and start the rows that continue."""
        logits = self.stack.logits(part.hidden[:, None])[:, 0]
        logits = logits[torch.tensor([number for _, number in rows], device=logits.device)]
        tokens, finite = self._draw([row for row, _ in rows], logits)
        alive: list[tuple[Row, int]] = []
        done: list[Ended] = []
        for (row, number), token, is_finite in zip(rows, tokens, finite, strict=True):
            if not is_finite:
                done.append(self._failed(row))
            elif token in self.loaded.eos_token_ids:
                done.append(self._completed(row, "stop", None))
            else:
                row.take(token)
                if reason := self._ended(row):
                    done.append(self._completed(row, reason, None))
                else:
                    alive.append((row, number))
        if alive:
            new = [row for row, _ in alive]
            self.memory.admit(part, [number for _, number in alive], new)
            for row in new:
                self.reader.clear(len(self.rows))
                self.counters.clear(len(self.rows))
                self.rows.append(row)
        return done

    def _step(self) -> list[Ended]:
        """Feed every row's newest token, and draw its next token or end the row."""
        state: torch.Tensor | None = None
        self.reader.begin_step()
        with suppress(StopForward):
            state = self.memory.step(self.rows)
        self.memory.finish_step()
        self.reader.finish_step()
        self.counters.finish()
        for row in self.rows:
            row.fed += 1
        stopped, gated = ask_watches(self.rows, self.counters, self.loaded)
        if gated and self.memory.whole:
            raise EngineError(
                f"a watch switched a plan on; {self.loaded.model_id} keeps nothing of the tokens before it",
                hint="give the request its plan from the start: a watch can only stop this model",
            )
        ended: list[tuple[int, FinishReason | None]] = [
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
            logits = self.stack.logits(state[:, -1:])[:, 0]
            drawn, finite = self._draw([self.rows[index] for index in going], logits)
            for index, token, is_finite in zip(going, drawn, finite, strict=True):
                row = self.rows[index]
                if not is_finite:
                    ended.append((index, None))
                    continue
                if token in self.loaded.eos_token_ids:
                    ended.append((index, "stop"))
                    continue
                row.take(token)
                if reason := self._ended(row):
                    ended.append((index, reason))
        done = [
            self._failed(self.rows[index])
            if reason is None
            else self._completed(self.rows[index], reason, index)
            for index, reason in ended
        ]
        self._remove([index for index, _ in ended])
        if ended or gated:
            self._rows_changed()
        return done

    def _remove(self, places: list[int]) -> None:
        """Free the places of rows; the last rows take them."""
        for index in sorted(places, reverse=True):
            last = self.memory.remove(index)
            self.reader.move(last, index)
            self.counters.move(last, index)
            self.rows[index] = self.rows[last]
            self.rows.pop()

    def _parts_changed(self) -> None:
        """Switch the operations of rows whose next token is in another part of the response."""
        if self.memory.whole:
            return
        if any(row.acting is not None and row.plan is not row.ran for row in self.rows):
            self._rows_changed()

    def _last_layer(self) -> int | None:
        """Return the layer after which the next step may stop, if all rows only feed their last token."""
        if not all(row.full for row in self.rows):
            return None
        acting = frozenset[int]() if self.editor is None else self.editor.layers
        return max(self.taps.layers | acting)

    def _rows_changed(self) -> None:
        self.reader.set_rows(self.rows)
        requests = [row.queued.request for row in self.rows]
        self.taps.layers = layers_wanted(requests, self.stack.n_layers)
        whole = self.memory.whole
        plans = [row.queued.request.plan if whole else row.plan for row in self.rows]
        for place, (row, plan) in enumerate(zip(self.rows, plans, strict=True)):
            if plan is not row.ran and not whole:
                # What the counters hold was counted under the plan that acted so far.
                row.fold(self.counters, place)
            row.ran = plan
        wanted = {plan.digest for plan in plans if plan is not None}
        if not wanted:
            self.editor = None
            return
        # Plans whose rows ended stay in the table until a new plan is added.
        if self.table is None or not wanted <= self.table.places.keys():
            self.table = plan_table(plans, response_only=not whole)
        assert self.table is not None
        extents = [row.queued.extent for row in self.rows] if whole else None
        self.editor = BatchedPlans(self.table, plans, self.counters, extents)

    def _draw(self, rows: list[Row], logits: torch.Tensor) -> tuple[list[int], list[bool]]:
        """Return each row's next token, and whether its logits were finite; if not, the token is invalid."""
        device = logits.device
        finite = finite_rows(logits)
        if not all(finite):
            logits = torch.where(torch.tensor(finite, device=device)[:, None], logits, 0.0)
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
        return tokens.tolist(), finite

    def _ended(self, row: Row) -> FinishReason | None:
        """Return the reason why a row ends with its newest token, or None if it continues."""
        if self.finish.stops(row, self.stops(row.queued.request)):
            return "stop"
        return "length" if row.full and not row.watched else None

    def _completed(self, row: Row, reason: FinishReason, place: int | None) -> Ended:
        """Return the end of a row with its completion, unless its values are not finite."""
        request = row.queued.request
        completion = self.finish(row, reason, place, self.stops(request))
        read = [*completion.projections.values(), completion.pooled]
        if not all(values is None or np.isfinite(values).all() for values in read):
            return self._failed(row)
        return Ended(row, completion)

    def _failed(self, row: Row) -> Ended:
        """Record that a row's values are not finite, and return its end."""
        self.failures.add(row.queued.request)
        return Ended(row, None)


def _completions(ended: list[Ended]) -> Iterator[Completion]:
    return (end.completion for end in ended if end.completion is not None)
