from ._caps import Window, cap_plan, default_windows, parse_window
from ._controls import random_control
from ._responses import Sample, axis_percentile_of_released
from ._sweep import PLAN, RESULT, Calibration, Cell, SweepSettings, calibrate

__all__ = [
    "PLAN",
    "RESULT",
    "Calibration",
    "Cell",
    "Sample",
    "SweepSettings",
    "Window",
    "axis_percentile_of_released",
    "calibrate",
    "cap_plan",
    "default_windows",
    "parse_window",
    "random_control",
]
