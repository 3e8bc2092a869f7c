"""A monitor on the disk: what its JSON record holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from personascope.dynamics.monitor._baseline import Level, MonitorBaseline
from personascope.dynamics.monitor._events import MonitorSource
from personascope.dynamics.monitor._rules import Cusum, Rule, Threshold
from personascope.errors import DynamicsError, StoreError
from personascope.stats import Calibration
from personascope.store import Record, read_record

MONITOR_JSON = "monitor.json"
FORMAT = 1
_AGAIN = "calibrate and save the monitor again"


def monitor_file(path: Path | str) -> Path:
    """Return the file of a monitor, of the path of the file or of its folder."""
    return Path(path) / MONITOR_JSON if Path(path).is_dir() else Path(path)


class CusumRecord(Record):
    """What ``Cusum.record`` returns."""

    rule: Literal["cusum"]
    threshold: float
    allowance: float
    baseline: MonitorBaseline
    calibration: Calibration | None

    def made(self) -> Cusum:
        """Return the rule.

        Raises:
            DynamicsError: If its numbers make no rule.
        """
        lists = (self.baseline.by_token, self.baseline.by_reply, self.baseline.spread)
        if not all(lists) or min(self.baseline.spread) <= 0 or not self.baseline.rest > 0:
            raise DynamicsError("its baseline has no spread", hint=_AGAIN)
        return Cusum(self.baseline, self.threshold, self.allowance, calibration=self.calibration)


class ThresholdRecord(Record):
    """What ``Threshold.record`` returns."""

    rule: Literal["threshold"]
    level: Level
    limit: float
    window: int
    calibration: Calibration | None
    name: str

    def made(self) -> Threshold:
        """Return the rule.

        Raises:
            DynamicsError: If its numbers make no rule.
        """
        return Threshold(self.level, self.limit, self.window, self.calibration, self.name)


class MonitorRecord(Record):
    """What ``Monitor.record`` returns."""

    rule: Annotated[CusumRecord | ThresholdRecord, Field(discriminator="rule")]
    layer: Annotated[int, Field(ge=0)]
    probe: str
    units: tuple[float, float] | None
    source: MonitorSource | None
    window: int


def read_monitor(file: Path) -> tuple[MonitorRecord, Rule]:
    """Read a saved monitor's record, and make its rule.

    Raises:
        StoreError: If the file is missing, damaged, changed since it was written, or of another format.
    """
    try:
        record = read_record(file, MonitorRecord, hint=_AGAIN, format=FORMAT)
        return record, record.rule.made()
    except DynamicsError as error:
        raise StoreError(f"{file} is damaged: {error.message}", hint=_AGAIN) from error
