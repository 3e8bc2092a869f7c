from ._baseline import MonitorBaseline
from ._calibrate import (
    ASSISTANT_LIKE,
    MonitorEvaluation,
    MonitorReport,
    calibrate_monitor,
    evaluate_monitor,
    switched_of,
)
from ._monitor import Monitor
from ._rules import Cusum, Threshold
from ._saved import MONITOR_JSON
from ._streamer import DriftStreamer

__all__ = [
    "ASSISTANT_LIKE",
    "MONITOR_JSON",
    "Cusum",
    "DriftStreamer",
    "Monitor",
    "MonitorBaseline",
    "MonitorEvaluation",
    "MonitorReport",
    "Threshold",
    "calibrate_monitor",
    "evaluate_monitor",
    "switched_of",
]
