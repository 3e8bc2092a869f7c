"""Simulated conversations with the model, and their replays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from personascope import __version__, report
from personascope.api._estimate import Prepared, WorkEstimate, estimable, resumed_remark, written
from personascope.api._inputs import as_folder, as_local, as_plan
from personascope.api._layout import replayed
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.corpus import load_corpus
from personascope.corpus.dialogues import DOMAINS, load_cases, load_domains
from personascope.directions import parse_probes
from personascope.dynamics import DriftRun, conversations, read_drift
from personascope.dynamics.conversations import (
    Auditor,
    Simulation,
    case_scenarios,
    sample_scenarios,
    switched_scenarios,
)
from personascope.dynamics.monitor import Monitor
from personascope.dynamics.trajectories import trajectories
from personascope.engines import Sampling
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.runs import WorkStep

if TYPE_CHECKING:
    from personascope.engines import LocalEngine


@dataclass(frozen=True, slots=True)
class DomainSummary:
    """First and last positions of a domain's conversations.

    Attributes:
        domain: Name of the domain.
        conversations: Number of conversations with a turn.
        turns: Number of their turns.
        first: Mean position of their first replies; NaN if all are empty.
        last: Mean position of their last replies; NaN if all are empty.
        alarms: Number of turns with an alarm of a monitor.
        capped: Share of all prompt and reply tokens on which caps fired; None without a plan.
    """

    domain: str
    conversations: int
    turns: int
    first: float
    last: float
    alarms: int
    capped: float | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Conversations(Tabular):
    """Result of a simulation or a replay.

    Attributes:
        simulation: Summary of the run folder: what is finished and what is not.
        run: Conversations of the run.
    """

    simulation: Simulation
    run: DriftRun

    @property
    def domains(self) -> tuple[DomainSummary, ...]:
        """Summary of each domain."""
        names = dict.fromkeys(dialogue.domain for dialogue in self.run.dialogues)
        return tuple(_summary(self.run, name) for name in names)

    def headline(self) -> str:
        """Return the numbers of conversations and turns, and where they are stored."""
        turns = sum(len(dialogue.turns) for dialogue in self.run.dialogues)
        return f"{len(self.run.dialogues)} conversations, {turns} turns, in {self.run.path}"

    def shown(self) -> tuple[str, ...]:
        """Return the columns of the card."""
        return ("conversation", "turn", "user", "reply", "position", "tokens")

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each turn: its texts, and the position and raw projection of the reply."""
        at = self.run.layer
        return [
            {
                "conversation": dialogue.id,
                "domain": dialogue.domain,
                "turn": turn.number,
                "user": turn.user,
                "reply": turn.reply,
                "position": float(position),
                "projection": float(turn.projections[at]),
                "tokens": turn.token_count,
                "capped_tokens": turn.capped_tokens,
                "alarm": turn.alarm,
                **turn.probes,
            }
            for dialogue in self.run.dialogues
            for turn, position in zip(dialogue.turns, self.run.positions(dialogue), strict=True)
        ]

    def plot(self) -> report.Plot:
        """Return the figure of mean positions by turn and domain; of few conversations, that of each.

        Raises:
            DynamicsError: If there is no turn.
        """
        identity = self.run.manifest["identity"]
        title = f"Positions of replies: {identity['model']['id']}, layer {self.run.layer}"
        found = trajectories(self.run)

        def draw(path: Path) -> None:
            if any(domain.turns for domain in found.domains):
                report.trajectory_figure(path, report.TrajectoryData.of(found, title))
            else:
                # Too few conversations for means with intervals.
                report.chats_figure(path, report.ChatsData(_lines(self.run), title, "Position of the reply"))

        return report.Plot(title, draw, {"run": str(self.run.path), "personascope": __version__})


@estimable
def simulate(
    mapped: MappedModel,
    *,
    domains: Sequence[str] = DOMAINS,
    cases: bool = False,
    switch_at: int | None = None,
    per_domain: int = 20,
    turns: int = 15,
    min_turns: int = 2,
    auditor: str = "scripted",
    auditor_headers: Mapping[str, str] | None = None,
    plan: Plan | Path | str | None = None,
    monitor: Monitor | None = None,
    layer: int | None = None,
    probes: Sequence[str] = (),
    max_new_tokens: int = 256,
    max_thinking_tokens: int | None = None,
    part: str = "answer",
    temperature: float = 0.7,
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[Conversations]:
    """Let an auditor talk with the model, and read where each reply lies on the axis (section 4).

    Args:
        mapped: Mapped model.
        domains: Names of built-in domains, or YAML files of the same form.
        cases: Whether to run the case studies instead.
        switch_at: Index of the turn, from 0, in which the user asks the model to be a role of the corpus.
        per_domain: Number of conversations per domain.
        turns: Maximum number of turns per conversation; raised to the longest script for ``cases``.
        min_turns: Number of turns before an auditor model may end a conversation.
        auditor: Auditor specification (`AUDITORS`).
        auditor_headers: Header -> environment variable with its value, for the auditor's server
            (`read_headers`).
        plan: Plan under which the model replies.
        monitor: Drift monitor that follows every conversation (`open_monitor`).
        layer: Layer at which positions are read; the map's middle layer if not given.
        probes: Further directions (`parse_probes`).
        max_new_tokens: Maximum length of a reply, in tokens.
        max_thinking_tokens: Maximum number of thinking tokens, in addition to the answer's; four times
            ``max_new_tokens`` if not given.
        part: Tokens of a reply that are read and monitored: "answer", "thinking" or "response" (both).
        temperature: Sampling temperature of the replies; 0 takes the most likely token.
        out: Folder of the conversations; the run layout's if not given.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: If an argument does not fit, before the model is loaded; else as in
            `personascope.dynamics.conversations.simulate`.
    """
    scenarios = (
        case_scenarios(load_cases()) if cases else sample_scenarios(load_domains(tuple(domains)), per_domain)
    )
    if switch_at is not None:
        scenarios = switched_scenarios(scenarios, load_corpus(), switch_at, seed=seed)
    if cases:
        turns = max(turns, max(len(scenario.messages) for scenario in scenarios))
    conversations.check_auditor(auditor, auditor_headers)
    acting = as_plan(plan)
    at = mapped.layer(layer)
    also = parse_probes(mapped.persona_map, probes, at)
    folder = as_folder(out, mapped.layout.cases if cases else mapped.layout.conversations())
    sampling = Sampling(
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        max_thinking_tokens=max_thinking_tokens,
    )

    def player(engine: LocalEngine) -> Auditor:
        max_batch = int(mapped.loading["max_batch"])
        return conversations.parse_auditor(
            auditor, target=engine, min_turns=min_turns, max_batch=max_batch, headers=auditor_headers
        )

    def estimate() -> WorkEstimate:
        engine = _engine(mapped, monitor)
        scripted = cases or auditor.strip() == "scripted"
        steps = conversations.estimate_conversations(
            engine,
            mapped.persona_map,
            conversations.scripts_of(scenarios, turns, seed, scripted=scripted),
            layer=at,
            probes=also,
            plan=acting,
            sampling=sampling,
            tokens=part,
            seed=seed,
            auditor=player(engine),
        )
        counts = f"{len(scenarios)} conversations of {turns} turns at most"
        return _estimate("simulation", steps, folder, counts, monitor)

    def run() -> Conversations:
        engine = _engine(mapped, monitor)
        done = conversations.simulate(
            engine,
            mapped.persona_map,
            scenarios,
            player(engine),
            out=folder,
            turns=turns,
            layer=at,
            probes=also,
            plan=acting,
            monitor=monitor,
            sampling=sampling,
            tokens=part,
            seed=seed,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
        )
        return Conversations(done, read_drift(done.path))

    return Prepared(estimate, run)


@estimable
def replay(
    mapped: MappedModel,
    source: Path | str,
    *,
    plan: Plan | Path | str | None = None,
    monitor: Monitor | None = None,
    probes: Sequence[str] = (),
    out: Path | str | None = None,
    restart: bool = False,
) -> Prepared[Conversations]:
    """Repeat the same user messages under another plan, or under none.

    Args:
        mapped: Mapped model.
        source: Folder of the conversations to replay.
        plan: Plan under which the model replies.
        monitor: Drift monitor that follows every conversation (`open_monitor`).
        probes: Further directions (`parse_probes`).
        out: Folder of the replay; the run layout's if not given.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: As in `simulate`.
    """
    before = read_drift(Path(source))
    acting = as_plan(plan)
    also = parse_probes(mapped.persona_map, probes, before.layer)
    folder = as_folder(out, mapped.layout.conversations(replayed(before.path)))

    def estimate() -> WorkEstimate:
        scripts = conversations.scripts_of_run(before)
        how = conversations.settings_of_run(before)
        steps = conversations.estimate_conversations(
            _engine(mapped, monitor), mapped.persona_map, scripts, probes=also, plan=acting, **how
        )
        return _estimate("replay", steps, folder, f"{len(scripts)} conversations", monitor)

    def run() -> Conversations:
        done = conversations.replay(
            _engine(mapped, monitor),
            mapped.persona_map,
            before,
            out=folder,
            probes=also,
            plan=acting,
            monitor=monitor,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
        )
        return Conversations(done, read_drift(done.path))

    return Prepared(estimate, run)


def _estimate(
    name: str, steps: tuple[WorkStep, ...], folder: Path, counts: str, monitor: Monitor | None
) -> WorkEstimate:
    watched = "" if monitor is None else "the monitor's own time is not counted"
    remarks = (counts, *filter(None, (watched,)), *resumed_remark(folder))
    return WorkEstimate(name, steps, written(folder, ("manifest.json", "units")), remarks)


def open_monitor(
    path: Path | str | None, *, gate: Plan | Path | str | None = None, stop: bool = False
) -> Monitor | None:
    """Read a drift monitor, and set the action of its alarm.

    Args:
        path: File of the monitor, or its folder, or an address on the hub; None for no monitor.
        gate: Plan that the alarm switches on.
        stop: Whether the alarm ends the conversation instead.

    Raises:
        UsageError: If an action is given without a monitor, or both actions are given.
        StoreError: If a file is missing or damaged.
    """
    if path is None:
        if gate is not None or stop:
            raise UsageError(
                "an alarm is to act, and there is no monitor to raise it",
                hint="add --monitor FILE; `personascope monitor` makes one",
            )
        return None
    if gate is not None and stop:
        raise UsageError("--gate and --stop-at-alarm were both given", hint="an alarm does one of them")
    return Monitor.load(as_local(path, ("monitor", "run")), on_alarm="stop" if stop else as_plan(gate))


def _engine(mapped: MappedModel, monitor: Monitor | None) -> LocalEngine:
    """Return the engine; a monitor of tokens needs one that can call it between tokens."""
    if monitor is not None and monitor.rule.level == "token":
        return mapped.engine_between_tokens()
    return mapped.engine


def _lines(run: DriftRun) -> list[report.ChatLine]:
    return [
        report.ChatLine(
            dialogue.id,
            [turn.number + 1 for turn in dialogue.turns],
            ["assistant"] * len(dialogue.turns),
            run.positions(dialogue).tolist(),
        )
        for dialogue in run.dialogues
        if dialogue.turns
    ]


def _summary(run: DriftRun, domain: str) -> DomainSummary:
    talks = [one for one in run.dialogues if one.domain == domain and one.turns]
    every = [turn for talk in talks for turn in talk.turns]
    passed = sum(turn.prompt_tokens + turn.token_count for turn in every)
    planned = passed and any(turn.plan for turn in every)
    return DomainSummary(
        domain,
        len(talks),
        len(every),
        _mean([float(run.positions(talk)[0]) for talk in talks]),
        _mean([float(run.positions(talk)[-1]) for talk in talks]),
        sum(turn.alarm is not None for turn in every),
        sum(turn.capped_tokens for turn in every) / passed if planned else None,
    )


def _mean(values: list[float]) -> float:
    known = np.array([value for value in values if not np.isnan(value)])
    return float(known.mean()) if len(known) else float("nan")
