from ._caps import Window, cap_conditions, cap_plan, default_windows, parse_window
from ._matching import matching_floors, random_control
from ._sweep import AXIS_PERCENTILES, PLAN, RESULT, Calibration, Cell, SweepSettings, calibrate, summarise
from ._thresholds import Projections, Sample, axis_percentile_of_released

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
