from ._baseline import Level, MonitorBaseline, Positions
from ._calibrate import (
    ASSISTANT_LIKE,
    MonitorEvaluation,
    MonitorReport,
    calibrate_monitor,
    evaluate_monitor,
    positions_of,
    switched_of,
)
from ._events import Action, MonitorEvent, MonitorSource, MonitorState, OnAlarm
from ._monitor import MONITOR_JSON, Monitor
from ._rules import Cusum, Rule, Threshold, first_alarm
from ._streamer import DriftStreamer

__all__ = [
    "ASSISTANT_LIKE",
    "MONITOR_JSON",
    "Action",
    "Cusum",
    "DriftStreamer",
    "Level",
    "Monitor",
    "MonitorBaseline",
    "MonitorEvaluation",
    "MonitorEvent",
    "MonitorReport",
    "MonitorSource",
    "MonitorState",
    "OnAlarm",
    "Positions",
    "Rule",
    "Threshold",
    "calibrate_monitor",
    "evaluate_monitor",
    "first_alarm",
    "positions_of",
    "switched_of",
]
