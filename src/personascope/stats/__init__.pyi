from ._clusters import limits
from ._conformal import Calibration, conformal_threshold
from ._intervals import (
    AgainstDraws,
    Difference,
    Interval,
    against_draws,
    mean_interval,
    paired_difference,
    pareto_front,
    share_interval,
)
from ._json import json_values
from ._ridge import (
    ALPHAS,
    NAIVE_ALPHA,
    folds_of,
    held_out_means,
    held_out_ridge,
    in_sample_r2,
    means_by,
    splits,
)
from ._slope import slope
from ._weighted import weighted_percentiles

__all__ = [
    "ALPHAS",
    "NAIVE_ALPHA",
    "AgainstDraws",
    "Calibration",
    "Difference",
    "Interval",
    "against_draws",
    "conformal_threshold",
    "folds_of",
    "held_out_means",
    "held_out_ridge",
    "in_sample_r2",
    "json_values",
    "limits",
    "mean_interval",
    "means_by",
    "paired_difference",
    "pareto_front",
    "share_interval",
    "slope",
    "splits",
    "weighted_percentiles",
]
