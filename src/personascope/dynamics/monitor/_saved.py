"""The JSON format of a saved monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from personascope.dynamics.monitor._baseline import SAVED_NAMES, Level, MonitorBaseline
from personascope.dynamics.monitor._events import MonitorSource
from personascope.dynamics.monitor._rules import Cusum, Rule, Threshold
from personascope.errors import DynamicsError, StoreError
from personascope.stats import Calibration
from personascope.store import Record, read_record

MONITOR_JSON = "monitor.json"
FORMAT = 1
_AGAIN = "calibrate and save the monitor again"


def monitor_file(path: Path | str) -> Path:
    """Return the monitor's file, given the path of the file or of its folder."""
    return Path(path) / MONITOR_JSON if Path(path).is_dir() else Path(path)


class BaselineRecord(Record):
    """Schema of ``MonitorBaseline.record``."""

    model_config = ConfigDict(alias_generator=lambda name: SAVED_NAMES.get(name, name))

    level: Level
    by_token: Annotated[tuple[float, ...], Field(min_length=1)]
    by_reply: Annotated[tuple[float, ...], Field(min_length=1)]
    spread: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
    warmup: int
    persistence: float
    residual_sd: Annotated[float, Field(gt=0)]
    conversations: int
    fitted_on: tuple[str, ...] = ()

    def made(self) -> MonitorBaseline:
        """Return the baseline of the record."""
        return MonitorBaseline(**dict(self))


class CusumRecord(Record):
    """Schema of ``Cusum.record``."""

    rule: Literal["cusum"]
    threshold: float
    allowance: float
    baseline: BaselineRecord
    calibration: Calibration | None

    def made(self) -> Cusum:
        """Return the rule of the record.

        Raises:
            DynamicsError: If its numbers are invalid.
        """
        return Cusum(self.baseline.made(), self.threshold, self.allowance, calibration=self.calibration)


class ThresholdRecord(Record):
    """Schema of ``Threshold.record``."""

    rule: Literal["threshold"]
    level: Level
    limit: float
    window: int
    calibration: Calibration | None
    name: str

    def made(self) -> Threshold:
        """Return the rule of the record.

        Raises:
            DynamicsError: If its numbers are invalid.
        """
        return Threshold(self.level, self.limit, self.window, self.calibration, self.name)


class MonitorRecord(Record):
    """Schema of ``Monitor.record``."""

    rule: Annotated[CusumRecord | ThresholdRecord, Field(discriminator="rule")]
    layer: Annotated[int, Field(ge=0)]
    probe: str
    units: tuple[float, float] | None
    source: MonitorSource | None
    window: int


def read_monitor(file: Path) -> tuple[MonitorRecord, Rule]:
    """Read a saved monitor's record, and create its rule.

    Raises:
        StoreError: If the file is missing, damaged, changed since it was written, or of another format.
    """
    try:
        record = read_record(file, MonitorRecord, hint=_AGAIN, format=FORMAT)
        return record, record.rule.made()
    except DynamicsError as error:
        raise StoreError(f"{file} is damaged: {error.message}", hint=_AGAIN) from error
