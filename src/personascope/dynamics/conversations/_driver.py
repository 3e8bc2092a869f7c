"""Run many conversations in parallel, one turn at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from personascope.chat import Conversation, Message
from personascope.directions import AXIS
from personascope.dynamics._conversation import DriftRun, Ended, Turn
from personascope.dynamics._records import FAILED, OVER, REASONING, SCHEMA, TURN, row_of
from personascope.dynamics.conversations._auditor import (
    Auditor,
    AuditorFailure,
    EndConversation,
    UserTurnRequest,
)
from personascope.dynamics.conversations._scenarios import Scenario
from personascope.dynamics.monitor import Monitor
from personascope.engines import Capture, Completion, Engine, Probe, Request, Sampling, longest_reply
from personascope.errors import ChatError, EngineError
from personascope.interventions import Plan
from personascope.runs import Progress, ProgressCallback, check_applied
from personascope.space import PersonaMap
from personascope.store import RunFolder

PATIENCE = 3
"""Consecutive auditor failures after which a conversation is left to a later call."""

ROWS = 64
"""Minimum number of rows in a commit, except at the end of a step."""


@dataclass(slots=True, eq=False)
class ConversationState:
    """State of one conversation in progress."""

    scenario: Scenario
    monitor: Monitor | None
    turns: list[Turn] = field(default_factory=list)
    ended: Ended | None = None
    problem: str = ""
    failures: int = 0

    @property
    def conversation(self) -> Conversation:
        return tuple(
            message
            for turn in self.turns
            for message in (Message("user", turn.user), Message("assistant", turn.reply))
        )

    @property
    def alarmed(self) -> int | None:
        """Index of the turn with the first alarm; None without one."""
        return next((turn.number for turn in self.turns if turn.alarm is not None), None)


class ConversationDriver:
    """Run all conversations of a run in steps; each step advances every open conversation by one turn."""

    def __init__(
        self,
        engine: Engine,
        persona_map: PersonaMap,
        auditor: Auditor,
        folder: RunFolder,
        turns: int,
        probes: tuple[Probe, ...],
        plan: Plan | None,
        sampling: Sampling,
        seed: int,
        progress: ProgressCallback | None,
        tokens: str = "answer",
    ) -> None:
        self.engine = engine
        self.persona_map = persona_map
        self.auditor = auditor
        self.folder = folder
        self.turns = turns
        self.probes = probes
        self.plan = plan
        self.sampling = sampling
        self.seed = seed
        self.progress = progress
        self.part = tokens
        self.states: list[ConversationState] = []
        self.rows: list[dict[str, Any]] = []
        self.tokens = 0

    def take_up(self, scenarios: Sequence[Scenario], monitor: Monitor | None, before: DriftRun) -> None:
        """Restore every conversation from its committed rows."""
        known = {dialogue.id: dialogue for dialogue in before.dialogues}
        for scenario in scenarios:
            state = ConversationState(scenario, None if monitor is None else monitor.fresh())
            dialogue = known[scenario.id]
            state.turns = list(dialogue.turns)
            state.ended = dialogue.ended
            state.problem = dialogue.problem
            for turn in state.turns:
                feed(state.monitor, turn, self.probes[0].layer)
            self.states.append(state)

    def run(self) -> None:
        while True:
            going = [state for state in self.states if state.ended is None and state.failures < PATIENCE]
            if not going:
                break
            self._step(going)
            self._commit()

    def _step(self, going: list[ConversationState]) -> None:
        asked = [
            UserTurnRequest(state.scenario, len(state.turns), state.conversation, self.seed)
            for state in going
        ]
        requests: dict[str, tuple[ConversationState, Request]] = {}
        for state, answer in zip(going, self.auditor.answer(asked), strict=True):
            if isinstance(answer, EndConversation):
                self._end(state, "auditor")
            elif isinstance(answer, AuditorFailure):
                state.failures += 1
                state.problem = answer.reason
                self._row(state, FAILED, reason=answer.reason)
                self._report()
            else:
                try:
                    request = self._request(state, answer.text)
                except ChatError as error:
                    self._end(state, "refused", error.message)
                    continue
                if request is None:
                    self._end(state, "context")
                else:
                    requests[request.id] = (state, request)
        waiting = dict(requests)
        for completion in self.engine.run(request for _, request in requests.values()):
            state, request = waiting.pop(completion.id)
            self._take(state, request, completion)
            if len(self.rows) >= ROWS:
                self._commit()
        if waiting:
            raise EngineError(
                f"the engine returned nothing for {len(waiting)} requests, such as {min(waiting)!r}",
                hint="run the same command again; what was committed is kept",
            )

    def _request(self, state: ConversationState, said: str) -> Request | None:
        """Return the request for the next reply; None if it would not fit in the model's context.

        Raises:
            ChatError: If the chat template refuses the conversation.
        """
        prompt = (*state.conversation, Message("user", said))
        limit = self.engine.info.context
        # Count even without a limit: a ChatError must surface here, so that it ends only this conversation.
        length = self.engine.count_tokens(prompt)
        if limit is not None and length + longest_reply(self.engine, self.sampling) > limit:
            return None
        watch = None
        plan = self.plan
        monitor = state.monitor
        if monitor is not None:
            if monitor.gate is not None and state.alarmed is not None:
                gate = from_message(monitor.gate, 2 * state.alarmed + 2)
                plan = gate if plan is None else plan + gate
            if monitor.rule.level == "token":
                watch = monitor.watch(AXIS, gated=monitor.gate is not None)
        return Request(
            f"{state.scenario.id}#{len(state.turns)}",
            prompt,
            self.sampling,
            plan=plan,
            capture=Capture(),
            probes=self.probes,
            seed=self.seed,
            watch=watch,
            tokens=self.part,
        )

    def _take(self, state: ConversationState, request: Request, completion: Completion) -> None:
        check_applied(completion.id, request.plan, completion.plan_digest)
        assert isinstance(request.prompt[-1], Message)
        turn = self._turn(state, request.prompt[-1].content, completion)
        state.turns.append(turn)
        state.failures, state.problem = 0, ""
        self.tokens += turn.token_count
        monitor = state.monitor
        if monitor is not None and monitor.stopped:
            state.ended = "alarm"
        elif len(state.turns) == self.turns:
            state.ended = "turns"
        self._row(state, TURN, turn=turn)
        self._report()

    def _turn(self, state: ConversationState, said: str, completion: Completion) -> Turn:
        layers = self.persona_map.n_layers
        pooled = completion.pooled
        along = np.full(layers, np.nan) if pooled is None else np.asarray(self.persona_map.project(pooled))
        stats, gate = completion.cap_stats, completion.gate
        if gate is not None and stats is None:
            stats = gate.cap_stats
        turn = Turn(
            number=len(state.turns),
            user=said,
            reply=completion.text,
            token_count=completion.token_count,
            finish_reason=completion.finish_reason,
            projections=along.astype(np.float32),
            tokens=np.asarray(completion.projections[AXIS], np.float32),
            probes={
                probe.name: float(np.mean(completion.projections[probe.name]))
                for probe in self.probes[1:]
                if len(completion.projections[probe.name])
            },
            plan=completion.plan_digest,
            plan_tokens=0 if stats is None else stats.tokens,
            capped_tokens=0 if stats is None else stats.capped_tokens,
            prompt_tokens=completion.prompt_tokens,
            reasoning=completion.reasoning or "",
        )
        monitor = state.monitor
        if monitor is None:
            return turn
        before = state.alarmed is not None
        if monitor.rule.level == "turn" or not turn.token_count:
            # A watch is never called for an empty reply, but the monitor must still count the reply.
            feed(monitor, turn, self.probes[0].layer)
        if before or monitor.alarmed_at is None:
            return turn
        alarm = next(event for event in monitor.events if event.kind == "alarm")
        last = max(0, turn.token_count - 1)
        return replace(turn, alarm=last if monitor.rule.level == "turn" else alarm.token)

    def _end(self, state: ConversationState, why: Ended, reason: str = "") -> None:
        state.ended, state.problem = why, ""
        self._row(state, OVER, reason=reason)
        self._report()

    def _row(
        self, state: ConversationState, status: str, *, turn: Turn | None = None, reason: str = ""
    ) -> None:
        row: dict[str, Any] = {
            "dialogue": state.scenario.id,
            "status": status,
            "turn": len(state.turns) if turn is None else turn.number,
            "ended": state.ended,
            "reason": reason,
        }
        if turn is not None:
            row |= row_of(turn)
        self.rows.append(row)

    def _commit(self) -> None:
        if self.rows:
            index = max(self.folder.units, default=-1) + 1
            schema = SCHEMA.append(REASONING) if any(row.get("reasoning") for row in self.rows) else SCHEMA
            table = pa.Table.from_pylist(self.rows, schema=schema)
            meta = {"rows": len(self.rows), "failed": sum(row["status"] == FAILED for row in self.rows)}
            self.folder.commit(index, rows=table, meta=meta, parts={})
            self.rows = []

    def _report(self) -> None:
        if self.progress is not None:
            done = sum(self.turns if state.ended else len(state.turns) for state in self.states)
            failed = sum(state.failures > 0 for state in self.states)
            note = f"{failed} wait for the auditor" if failed else ""
            self.progress(Progress("simulate", done, self.turns * len(self.states), self.tokens, note))


def feed(monitor: Monitor | None, turn: Turn, layer: int) -> None:
    """Feed a monitor with a finished reply."""
    if monitor is None:
        return
    if monitor.rule.level == "turn":
        monitor.feed(monitor.to_position(float(turn.projections[layer])))
        return
    monitor.begin_reply(gated=monitor.gate is not None)
    for value in turn.tokens:
        monitor.feed_raw(float(value))


def from_message(plan: Plan, index: int) -> Plan:
    """Return a plan whose operations on all tokens start at a given message of the conversation.

    Args:
        plan: Plan to restrict.
        index: Index of the message, from 0.
    """
    ops = tuple(replace(op, tokens=f"turn:{index}") if op.tokens == "all" else op for op in plan.ops)
    return Plan(ops, plan.model, plan.name)
