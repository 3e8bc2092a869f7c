"""Calibration of a drift monitor on Assistant-like conversations, and its evaluation on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from personascope.api._inputs import as_folder
from personascope.api._layout import RunLayout
from personascope.api._mapped_model import MappedModel
from personascope.dynamics import read_drift
from personascope.dynamics.monitor import (
    ASSISTANT_LIKE,
    Monitor,
    MonitorEvaluation,
    MonitorReport,
    calibrate_monitor,
    evaluate_monitor,
    switched_of,
)
from personascope.errors import UsageError
from personascope.stats import json_values
from personascope.store import write_json


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedMonitor:
    """A calibrated monitor, with its report and files.

    Attributes:
        monitor: Calibrated monitor.
        report: Calibration data, and alarms on held-out conversations.
        path: File of the monitor.
        report_path: File of the report.
        switched: Rule name -> its evaluation on conversations that switch.
    """

    monitor: Monitor
    report: MonitorReport
    path: Path
    report_path: Path
    switched: Mapping[str, MonitorEvaluation] = field(default_factory=dict)


def calibrate_drift_monitor(
    mapped: MappedModel,
    conversations: Path | str,
    *,
    level: Literal["turn", "token"] = "token",
    rule: Literal["cusum", "threshold"] = "cusum",
    false_alarms: float = 0.05,
    domains: Sequence[str] = ASSISTANT_LIKE,
    switched: Path | str | None = None,
    horizon: int | None = None,
    shares: tuple[float, float, float] = (0.25, 0.5, 0.25),
    out: Path | str | None = None,
    seed: int = 0,
    anyway: bool = False,
) -> CalibratedMonitor:
    """Calibrate a drift monitor on Assistant-like conversations, and evaluate it on others.

    Args:
        mapped: Mapped model, which is not loaded.
        conversations: Folder of simulated conversations, made without a plan.
        level: Whether the monitor reads every token, or the mean of every reply.
        rule: Alarm rule.
        false_alarms: Target share of Assistant-like conversations that raise an alarm.
        domains: Domains that stay near the Assistant.
        switched: Folder of conversations that switch, to measure the delay of the alarm.
        horizon: Number of tokens or turns within which the rate must hold; by default the longest calibration
            conversation.
        shares: Shares of the conversations that fit the baseline (5 at least), set the threshold, and are
            held out.
        out: Folder of the two files; the run folder if not given.
        seed: Random seed of the split of the conversations.
        anyway: Continue even if the map found no axis.

    Raises:
        SpaceError: If the map found no axis.
        UsageError: If no conversation in the folder ``switched`` switches.
        DynamicsError: If there are too few conversations, or they are of another map.
    """
    mapped.require_axis(anyway=anyway)
    mapped.tell(f"reading {conversations} ...")
    monitor, report = calibrate_monitor(
        read_drift(Path(conversations)),
        domains=domains,
        level=level,
        rule=rule,
        false_alarms=false_alarms,
        seed=seed,
        horizon=horizon,
        shares=shares,
    )
    monitor.check_map(mapped.persona_map)
    record = report.record()
    measured: dict[str, MonitorEvaluation] = {}
    if switched is not None:
        pairs = switched_of(read_drift(Path(switched)), level)
        if not pairs:
            raise UsageError(
                f"{switched} holds no conversation that switches",
                hint="make some with personascope simulate RUN --switch-at N",
            )
        measured = {name: evaluate_monitor(each, [], pairs) for name, each in report.rules.items()}
        record["switched"] = {name: _record(found) for name, found in measured.items()}
    layout = RunLayout(as_folder(out, mapped.layout.folder))
    layout.folder.mkdir(parents=True, exist_ok=True)
    monitor.save(layout.monitor)
    write_json(layout.monitor_report, record)
    return CalibratedMonitor(monitor, report, layout.monitor, layout.monitor_report, measured)


def _record(found: MonitorEvaluation) -> object:
    shares = {key: asdict(getattr(found, key)) for key in ("early", "detected")}
    return json_values(shares | {"delay": found.delay})
