from ._caps import Window, cap_conditions, cap_plan, default_windows, parse_window
from ._kept_norms import NORMS, keep_norms, norms_for, read_norms
from ._matching import matching_floors, random_control
from ._norms import Norms, residual_norms
from ._sweep import (
    AXIS_PERCENTILES,
    PLAN,
    RESULT,
    Calibration,
    Cell,
    SweepSettings,
    calibrate,
    summarise,
)
from ._thresholds import Projections, Sample, axis_percentile_of_released

__all__ = [
    "AXIS_PERCENTILES",
    "NORMS",
    "PLAN",
    "RESULT",
    "Calibration",
    "Cell",
    "Norms",
    "Projections",
    "Sample",
    "SweepSettings",
    "Window",
    "axis_percentile_of_released",
    "calibrate",
    "cap_conditions",
    "cap_plan",
    "default_windows",
    "keep_norms",
    "matching_floors",
    "norms_for",
    "parse_window",
    "random_control",
    "read_norms",
    "residual_norms",
    "summarise",
]
