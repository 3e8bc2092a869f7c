from ._caps import Window, cap_plan, default_windows, parse_window
from ._cells import Cell
from ._controls import control_plans
from ._estimate import estimate_calibration
from ._responses import Sample, axis_percentile_of_released
from ._strengths import check_dose, default_layers
from ._sweep import PLAN, RESULT, Calibration, SweepSettings, calibrate

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
    "check_dose",
    "control_plans",
    "default_layers",
    "default_windows",
    "estimate_calibration",
    "parse_window",
]
