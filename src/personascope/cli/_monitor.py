"""``personascope monitor``: calibrate a drift monitor, and report how it does."""

from __future__ import annotations

import math
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from personascope.cli._console import out, say
from personascope.cli._engine import run_folder
from personascope.cli._options import ANYWAY
from personascope.cli._verdict import open_found_map
from personascope.dynamics import read_drift
from personascope.dynamics.monitor import (
    ASSISTANT_LIKE,
    MONITOR_JSON,
    calibrate_monitor,
    evaluate_monitor,
    switched_of,
)
from personascope.errors import UsageError
from personascope.stats import json_values
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.dynamics.monitor import MonitorEvaluation
    from personascope.stats import Interval


REPORT = "monitor_report.json"


class Level(StrEnum):
    """What a monitor is fed."""

    TURN = "turn"
    TOKEN = "token"


class Kind(StrEnum):
    """Rules of alarm."""

    CUSUM = "cusum"
    THRESHOLD = "threshold"


def monitor(
    run: Path = typer.Argument(..., help="Run folder of the model's map."),
    talks: Path = typer.Argument(..., help="Conversations of simulate, made without a plan."),
    out_folder: Path = typer.Option(
        None, "--out", help="Folder of monitor.json; the run folder if not given."
    ),
    level: Level = typer.Option(Level.TOKEN, help="What is fed: every token, or the mean of every reply."),
    rule: Kind = typer.Option(Kind.CUSUM, help="When the alarm is raised."),
    false_alarms: float = typer.Option(
        0.05, min=0.0, max=1.0, help="Share of Assistant-like conversations that may alarm."
    ),
    domains: str = typer.Option(",".join(ASSISTANT_LIKE), help="Domains that stay with the Assistant."),
    switched: Path = typer.Option(
        None, help="Conversations of simulate --switch-at, on which the delay of the alarm is measured."
    ),
    horizon: int = typer.Option(None, min=1, help="Tokens or turns within which the rate shall hold."),
    seed: int = typer.Option(0, help="Random seed of the split of the conversations."),
    anyway: bool = ANYWAY,
) -> None:
    """Calibrate a drift monitor on Assistant-like conversations, and measure it on others."""
    persona_map = open_found_map(run, anyway=anyway)
    say(f"reading {talks}")
    source = read_drift(talks)
    made, report = calibrate_monitor(
        source,
        domains=[part.strip() for part in domains.split(",")],
        level=level.value,
        rule=rule.value,
        false_alarms=false_alarms,
        seed=seed,
        horizon=horizon,
    )
    made.check_map(persona_map)
    record = report.record()
    table = Table(title=f"Alarms of a monitor of {level.value}s at layer {made.layer}")
    for name in ("conversations", "rule", "with an alarm", "95%", "n", f"delay in {level.value}s"):
        table.add_column(name, justify="left" if name in ("conversations", "rule") else "right")
    for name, evaluation in report.evaluations.items():
        table.add_row("held out, Assistant-like", name, *_share(evaluation.false_alarms), "")
    for name, shares in report.others.items():
        for domain, share in shares.items():
            table.add_row(domain, name, *_share(share), "")
    if switched is not None:
        record["switched"] = {}
        pairs = switched_of(read_drift(switched), level.value)
        if not pairs:
            raise UsageError(
                f"{switched} holds no conversation that switches",
                hint="make some with personascope simulate RUN --switch-at N",
            )
        for name, each in report.rules.items():
            measured = evaluate_monitor(each, [], pairs)
            table.add_row("switched, before the switch", name, *_share(measured.early), "")
            table.add_row("switched, from the switch on", name, *_share(measured.detected), _delay(measured))
            told = {key: asdict(getattr(measured, key)) for key in ("early", "detected")}
            record["switched"][name] = json_values(told | {"delay": measured.delay})
    out.print(table)
    folder = out_folder or run_folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / MONITOR_JSON)
    write_json(folder / REPORT, record)
    asked = f"{false_alarms:.0%} asked for, {len(report.calibration)} conversations set the threshold"
    out.print(f"false alarms: {asked}; monitor in {folder / MONITOR_JSON}, report in {folder / REPORT}")


def _share(share: Interval) -> tuple[str, str, str]:
    if share.n == 0:
        return "-", "", "0"
    return f"{share.estimate:.0%}", f"{share.low:.0%} to {share.high:.0%}", str(share.n)


def _delay(found: MonitorEvaluation) -> str:
    low, middle, high = (f"{value:.0f}" if math.isfinite(value) else "none" for value in found.delay)
    return f"{middle} ({low} to {high})"
