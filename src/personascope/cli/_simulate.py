"""``personascope simulate`` and ``replay``: conversations with the model, and the same ones again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from personascope import directions
from personascope.cli._console import PARTLY, err, out, this_command
from personascope.cli._engine import PLAYED, open_engine, open_map, read_headers, run_folder
from personascope.cli._options import (
    ADDRESS,
    AUDITOR_HEADER,
    BATCH,
    DTYPE,
    MODEL,
    RESTART,
    RUN,
    SEED,
    WORKERS,
    DtypeName,
    EngineName,
    names,
)
from personascope.corpus import load_corpus
from personascope.corpus.dialogues import DOMAINS, load_cases, load_domains
from personascope.dynamics import conversations, read_drift
from personascope.dynamics.conversations import AUDITORS, case_scenarios, sample_scenarios, switched_scenarios
from personascope.dynamics.monitor import Monitor
from personascope.engines import Sampling
from personascope.errors import UsageError
from personascope.interventions import Plan

if TYPE_CHECKING:
    from personascope.dynamics.conversations import Simulation


PLAN = typer.Option(None, help="Plan under which the model replies; none if not given.")
MONITOR = typer.Option(None, help="Drift monitor (monitor.json) that follows every conversation.")
GATE = typer.Option(None, help="Plan that the monitor's alarm switches on.")
STOP = typer.Option(False, "--stop-at-alarm", help="End a conversation at the monitor's alarm.")
LAYER = typer.Option(
    None, min=0, help="Layer at which positions are read; the map's middle layer if not given."
)
PROBES = typer.Option(None, "--probe", help="Further direction: pc1, role:NAME, NAME=FILE; may be repeated.")
ENGINE = typer.Option(
    "auto",
    "--engine",
    help="Engine; auto is vllm where it is installed, transformers for a monitor of tokens.",
)


def simulate_talks(
    run: Path = RUN,
    out_folder: Path = typer.Option(
        None, "--out", help="Folder of the conversations; <run>/drift/simulated."
    ),
    domains: str = typer.Option(
        ",".join(DOMAINS), help="Domains with commas: built-in names, or YAML files of the same form."
    ),
    cases: bool = typer.Option(False, "--cases", help="Play the case studies instead of the domains."),
    switch_at: int = typer.Option(
        None, min=0, help="Exchange, from 0, in which the user asks the model to be a role of the corpus."
    ),
    per_domain: int = typer.Option(20, "--conversations", min=1, help="Conversations of each domain."),
    turns: int = typer.Option(15, min=1, help="Exchanges of a conversation at most."),
    min_turns: int = typer.Option(
        2, min=0, help="Exchanges before which a model may not end a conversation."
    ),
    auditor: str = typer.Option("scripted", help=f"Who plays the user: {AUDITORS}."),
    auditor_header: list[str] = AUDITOR_HEADER,
    plan: Path = PLAN,
    monitor: Path = MONITOR,
    gate: Path = GATE,
    stop_at_alarm: bool = STOP,
    layer: int = LAYER,
    probes: list[str] = PROBES,
    max_new_tokens: int = typer.Option(256, min=1, help="Length of a reply at most."),
    temperature: float = typer.Option(
        0.7, min=0.0, help="Temperature of the replies; 0 takes the most likely token."
    ),
    model: str = MODEL,
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    seed: int = SEED,
    restart: bool = RESTART,
) -> None:
    """Let an auditor talk with the model, and read where each reply lies on the axis (section 4)."""
    follower = _monitor(monitor, gate, stop_at_alarm)
    scenarios = (
        case_scenarios(load_cases()) if cases else sample_scenarios(load_domains(names(domains)), per_domain)
    )
    if switch_at is not None:
        scenarios = switched_scenarios(scenarios, load_corpus(), switch_at, seed=seed)
    if cases:
        turns = max(turns, max(len(scenario.messages) for scenario in scenarios))
    headers = read_headers(auditor_header)
    conversations.check_auditor(auditor, headers)
    acting = None if plan is None else Plan.load(plan)
    persona_map = open_map(run)
    at = persona_map.middle_layer if layer is None else layer
    persona_map.unit_axis(at)
    also = directions.parse_probes(persona_map, probes or (), at)
    _, engine = open_engine(
        persona_map,
        model=model,
        kind=_kind(engine_kind, follower),
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    done = conversations.simulate(
        engine,
        persona_map,
        scenarios,
        conversations.parse_auditor(
            auditor, target=engine, min_turns=min_turns, max_batch=max_batch, headers=headers
        ),
        out=_folder(run, out_folder, PLAYED if cases else "simulated"),
        turns=turns,
        layer=at,
        probes=also,
        plan=acting,
        monitor=follower,
        sampling=Sampling(temperature=temperature, max_new_tokens=max_new_tokens),
        seed=seed,
        restart=restart,
        command=this_command(),
    )
    _tell(done)


def replay_talks(
    run: Path = RUN,
    source: Path = typer.Argument(..., help="Folder of the conversations to replay."),
    out_folder: Path = typer.Option(
        None, "--out", help="Folder of the replay; <run>/drift/<source>_replayed."
    ),
    plan: Path = PLAN,
    monitor: Path = MONITOR,
    gate: Path = GATE,
    stop_at_alarm: bool = STOP,
    probes: list[str] = PROBES,
    model: str = MODEL,
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    restart: bool = RESTART,
) -> None:
    """Say the same messages again under another plan, or under none."""
    follower = _monitor(monitor, gate, stop_at_alarm)
    before = read_drift(source)
    acting = None if plan is None else Plan.load(plan)
    persona_map = open_map(run)
    also = directions.parse_probes(persona_map, probes or (), before.layer)
    _, engine = open_engine(
        persona_map,
        model=model,
        kind=_kind(engine_kind, follower),
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    done = conversations.replay(
        engine,
        persona_map,
        before,
        out=_folder(run, out_folder, f"{source.name}_replayed"),
        probes=also,
        plan=acting,
        monitor=follower,
        restart=restart,
        command=this_command(),
    )
    _tell(done)


def _monitor(path: Path | None, gate: Path | None, stop: bool) -> Monitor | None:
    if path is None:
        if gate is not None or stop:
            raise UsageError(
                "an alarm is to act, and there is no monitor to raise it",
                hint="add --monitor FILE; `personascope monitor` makes one",
            )
        return None
    if gate is not None and stop:
        raise UsageError("--gate and --stop-at-alarm were both given", hint="an alarm does one of them")
    return Monitor.load(path, on_alarm="stop" if stop else None if gate is None else Plan.load(gate))


def _kind(kind: str, monitor: Monitor | None) -> str:
    """Return the engine: a monitor of tokens is asked between two tokens, which Transformers alone can do."""
    return (
        "transformers" if kind == "auto" and monitor is not None and monitor.rule.level == "token" else kind
    )


def _folder(run: Path, given: Path | None, name: str) -> Path:
    return given or run_folder(run) / "drift" / name


def _tell(done: Simulation) -> None:
    run = read_drift(done.path)
    table = Table(title=f"Positions at layer {run.layer}: 0 is the mean role, 1 the default Assistant")
    for name in ("domain", "conversations", "exchanges", "first reply", "last reply", "alarms", "capped"):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for domain in dict.fromkeys(dialogue.domain for dialogue in run.dialogues):
        talks = [d for d in run.dialogues if d.domain == domain and d.exchanges]
        every = [exchange for talk in talks for exchange in talk.exchanges]
        first = [float(run.positions(talk)[0]) for talk in talks]
        last = [float(run.positions(talk)[-1]) for talk in talks]
        passed = sum(exchange.prompt_tokens + exchange.token_count for exchange in every)
        capped = sum(exchange.capped_tokens for exchange in every)
        table.add_row(
            domain,
            str(len(talks)),
            str(len(every)),
            _mean(first),
            _mean(last),
            str(sum(exchange.alarm is not None for exchange in every)),
            f"{capped / passed:.1%}" if passed and any(e.plan for e in every) else "",
        )
    out.print(table)
    out.print(f"{done.finished} of {done.dialogues} conversations are over, in {done.path}")
    for name, problem in done.problems.items():
        err.print(f"[yellow]left:[/] {escape(name)}: {escape(problem)}", soft_wrap=True)
    if done.partial:
        err.print("[yellow]partly done:[/] run the same command again to go on")
        raise typer.Exit(PARTLY)


def _mean(values: list[float]) -> str:
    known = [value for value in values if value == value]
    return f"{sum(known) / len(known):+.2f}" if known else "-"
