"""``personascope monitor``: calibrate a drift monitor, and report how it does."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import out, say_next
from personascope.cli._grid import grid
from personascope.cli._json import hand_over
from personascope.cli._options import ANYWAY, ASSISTANT_LIKE, MAX_SEED, finite, names, numbers
from personascope.cli._run import open_run
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.api import CalibratedMonitor
    from personascope.dynamics.monitor import MonitorEvaluation
    from personascope.stats import Interval


class Level(StrEnum):
    """Values that a monitor reads."""

    TURN = "turn"
    TOKEN = "token"


class Kind(StrEnum):
    """Alarm rules."""

    CUSUM = "cusum"
    THRESHOLD = "threshold"


def monitor(
    run: Path = typer.Argument(..., help="Run folder of the model's map."),
    conversations: Path = typer.Argument(..., help="Conversations of simulate, made without a plan."),
    out_folder: Path | None = typer.Option(
        None, "--out", help="Folder of monitor.json; the run folder if not given."
    ),
    level: Level = typer.Option(Level.TOKEN, help="What is fed: every token, or the mean of every reply."),
    rule: Kind = typer.Option(Kind.CUSUM, help="When the alarm is raised."),
    false_alarms: float = typer.Option(
        0.05, callback=finite, min=0.0, max=1.0, help="Share of Assistant-like conversations that may alarm."
    ),
    domains: str = typer.Option(ASSISTANT_LIKE, help="Domains that stay with the Assistant."),
    switched: Path | None = typer.Option(
        None, help="Conversations of simulate --switch-at, on which the delay of the alarm is measured."
    ),
    horizon: int | None = typer.Option(None, min=1, help="Tokens or turns within which the rate shall hold."),
    shares: str = typer.Option(
        "0.25,0.5,0.25",
        help="Shares of the conversations that fit the baseline (5 at least), set the threshold, and are "
        "held out.",
    ),
    seed: int = typer.Option(0, min=0, max=MAX_SEED, help="Random seed of the split of the conversations."),
    anyway: bool = ANYWAY,
) -> None:
    """Calibrate a drift monitor on Assistant-like conversations, and measure it on others."""
    found = api.calibrate_drift_monitor(
        open_run(run),
        conversations,
        level=level.value,
        rule=rule.value,
        false_alarms=false_alarms,
        domains=names(domains),
        switched=switched,
        horizon=horizon,
        shares=_shares(shares),
        out=out_folder,
        seed=seed,
        anyway=anyway,
    )
    _print_alarms(found, level.value)
    asked = f"{false_alarms:.0%} asked for, {len(found.report.calibration)} conversations set the threshold"
    out.print(f"false alarms: {asked}; monitor in {found.path}, report in {found.report_path}")
    hand_over(results=found.report.record(), monitor=str(found.path))
    say_next(("simulate", run, "--monitor", found.path), ("report", run))


def _shares(text: str) -> tuple[float, float, float]:
    found = numbers(text, "shares")
    if len(found) != 3:
        raise UsageError(f"--shares {text!r} has {len(found)} numbers", hint="give three, such as 0.6,0.4,0")
    return found[0], found[1], found[2]


def _print_alarms(found: CalibratedMonitor, level: str) -> None:
    table = grid(
        f"Alarms of a monitor of {level}s at layer {found.monitor.layer}",
        *("conversations", "rule", "with an alarm", "95%", "n", f"delay in {level}s"),
        words=("conversations", "rule"),
    )
    for name, evaluation in found.report.evaluations.items():
        table.add_row("held out, Assistant-like", name, *_share(evaluation.false_alarms), "")
    for name, shares in found.report.others.items():
        for domain, share in shares.items():
            table.add_row(domain, name, *_share(share), "")
    for name, measured in found.switched.items():
        table.add_row("switched, before the switch", name, *_share(measured.early), "")
        table.add_row("switched, from the switch on", name, *_share(measured.detected), _delay(measured))
    out.print(table)


def _share(share: Interval) -> tuple[str, str, str]:
    if share.n == 0:
        return "-", "", "0"
    return f"{share.estimate:.0%}", f"{share.low:.0%} to {share.high:.0%}", str(share.n)


def _delay(found: MonitorEvaluation) -> str:
    low, middle, high = (f"{value:.0f}" if math.isfinite(value) else "none" for value in found.delay)
    return f"{middle} ({low} to {high})"
