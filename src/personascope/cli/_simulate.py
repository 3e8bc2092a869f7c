"""``personascope simulate`` and ``replay``: conversations with the model, and the same ones again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from personascope import api
from personascope.cli._console import PARTLY, err, out, say_next
from personascope.cli._estimate import print_estimate
from personascope.cli._grid import grid
from personascope.cli._groups import EngineOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._options import (
    AUDITOR_HEADER,
    AUDITORS,
    DOMAINS,
    DRY_RUN,
    MAX_THINKING,
    RESTART,
    RUN,
    SEED,
    PartName,
    finite,
    names,
)

if TYPE_CHECKING:
    from personascope.api import Conversations, Prepared

PLAN = typer.Option(None, help="Plan under which the model replies; none if not given.")
MONITOR = typer.Option(None, help="Drift monitor (monitor.json) that follows every conversation.")
GATE = typer.Option(None, help="Plan that the monitor's alarm switches on.")
STOP = typer.Option(False, "--stop-at-alarm", help="End a conversation at the monitor's alarm.")
LAYER = typer.Option(
    None, min=0, help="Layer at which positions are read; the map's middle layer if not given."
)
PROBES = typer.Option(
    None, "--probe", help="Further direction: pc1, role:NAME, trait:NAME, NAME=FILE; may be repeated."
)
LOADING = EngineOptions(
    engine=typer.Option(
        "auto",
        "--engine",
        help="Engine; auto is vllm where it is installed, transformers for a monitor of tokens.",
    )
)


@grouped
def simulate_talks(
    run: Path = RUN,
    out_folder: Path | None = typer.Option(
        None, "--out", help="Folder of the conversations; <run>/drift/simulated."
    ),
    domains: str = typer.Option(
        DOMAINS, help="Domains with commas: built-in names, or YAML files of the same form."
    ),
    cases: bool = typer.Option(False, "--cases", help="Play the case studies instead of the domains."),
    switch_at: int | None = typer.Option(
        None, min=0, help="Turn, from 0, in which the user asks the model to be a role of the corpus."
    ),
    per_domain: int = typer.Option(20, "--conversations", min=1, help="Conversations of each domain."),
    turns: int = typer.Option(15, min=1, help="Turns of a conversation at most."),
    min_turns: int = typer.Option(2, min=0, help="Turns before which a model may not end a conversation."),
    auditor: str = typer.Option("scripted", help=f"Who plays the user: {AUDITORS}."),
    auditor_header: list[str] | None = AUDITOR_HEADER,
    plan: Path = PLAN,
    monitor: Path = MONITOR,
    gate: Path = GATE,
    stop_at_alarm: bool = STOP,
    layer: int | None = LAYER,
    probes: list[str] = PROBES,
    max_new_tokens: int = typer.Option(256, min=1, help="Length of a reply at most."),
    max_thinking_tokens: int | None = MAX_THINKING,
    part: PartName = typer.Option("answer", help="Tokens of a reply that are read and monitored."),
    temperature: float = typer.Option(
        0.7, callback=finite, min=0.0, help="Temperature of the replies; 0 takes the most likely token."
    ),
    engine: EngineOptions = LOADING,
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Let an auditor talk with the model, and read where each reply lies on the axis (section 4)."""
    headers = api.read_headers(auditor_header or ())
    follower = api.open_monitor(monitor, gate=gate, stop=stop_at_alarm)
    mapped = engine.open(run)
    work = api.simulate.prepare(
        mapped,
        domains=names(domains),
        cases=cases,
        switch_at=switch_at,
        per_domain=per_domain,
        turns=turns,
        min_turns=min_turns,
        auditor=auditor,
        auditor_headers=headers,
        plan=plan,
        monitor=follower,
        layer=layer,
        probes=probes or (),
        max_new_tokens=max_new_tokens,
        max_thinking_tokens=max_thinking_tokens,
        part=part,
        temperature=temperature,
        out=out_folder,
        seed=seed,
        restart=restart,
    )
    _print(work, run, dry_run=dry_run)


@grouped
def replay_talks(
    run: Path = RUN,
    source: Path = typer.Argument(..., help="Folder of the conversations to replay."),
    out_folder: Path | None = typer.Option(
        None, "--out", help="Folder of the replay; <run>/drift/<source>_replayed."
    ),
    plan: Path = PLAN,
    monitor: Path = MONITOR,
    gate: Path = GATE,
    stop_at_alarm: bool = STOP,
    probes: list[str] = PROBES,
    engine: EngineOptions = LOADING,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Say the same messages again under another plan, or under none."""
    follower = api.open_monitor(monitor, gate=gate, stop=stop_at_alarm)
    mapped = engine.open(run)
    work = api.replay.prepare(
        mapped,
        source,
        plan=plan,
        monitor=follower,
        probes=probes or (),
        out=out_folder,
        restart=restart,
    )
    _print(work, run, dry_run=dry_run)


def _print(work: Prepared[Conversations], folder: Path, *, dry_run: bool) -> None:
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    run, done = found.run, found.simulation
    hand_over(results=found.records())
    table = grid(
        f"Positions at layer {run.layer}: 0 is the mean role, 1 the default Assistant",
        *("domain", "conversations", "turns", "first reply", "last reply", "alarms", "capped"),
        words=("domain",),
    )
    for one in found.domains:
        table.add_row(
            one.domain,
            str(one.conversations),
            str(one.turns),
            _position(one.first),
            _position(one.last),
            str(one.alarms),
            "" if one.capped is None else f"{one.capped:.1%}",
        )
    out.print(table)
    out.print(f"{done.finished} of {done.dialogues} conversations are over, in {done.path}")
    for name, problem in done.problems.items():
        err.print(f"[yellow]left:[/] {escape(name)}: {escape(problem)}", soft_wrap=True)
    if done.partial:
        err.print("[yellow]partly done:[/] run the same command again to go on")
        raise typer.Exit(PARTLY)
    say_next(("drift", done.path), ("monitor", folder, done.path))


def _position(value: float) -> str:
    return "-" if value != value else f"{value:+.2f}"
