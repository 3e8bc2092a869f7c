from ._caps import Window, cap_conditions, cap_plan, default_windows, parse_window
from ._controls import matching_floors, random_control
from ._responses import Projections, Sample, axis_percentile_of_released
from ._sweep import AXIS_PERCENTILES, PLAN, RESULT, Calibration, Cell, SweepSettings, calibrate, summarise

__all__ = [
    "AXIS_PERCENTILES",
    "PLAN",
    "RESULT",
    "Calibration",
    "Cell",
    "Projections",
    "Sample",
    "SweepSettings",
    "Window",
    "axis_percentile_of_released",
    "calibrate",
    "cap_conditions",
    "cap_plan",
    "default_windows",
    "matching_floors",
    "parse_window",
    "random_control",
    "summarise",
]
