from ._cases_page import Brief, write_cases_page
from ._collect import collect
from ._data import Curves, Figure, ReportData, Role, Sample
from ._drift_data import (
    ClusterData,
    ClusterRow,
    PredictionData,
    PredictionPanel,
    ReplayData,
    ReplayPanel,
    TrajectoryData,
    TrajectoryLine,
)
from ._drift_figures import (
    cluster_figure,
    prediction_figure,
    replay_figure,
    trajectory_figure,
)
from ._evaluations import save_calibration_figure, save_evaluation_figure
from ._figure_data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from ._figures import (
    completions_figure,
    conditions_figure,
    pareto_figure,
    susceptibility_figure,
)
from ._harm_figure import save_harm_figure
from ._page import payload, render
from ._write import write_report

__all__ = [
    "Brief",
    "ClusterData",
    "ClusterRow",
    "CompletionsData",
    "ConditionRow",
    "ConditionsData",
    "Curves",
    "Estimate",
    "Figure",
    "ParetoData",
    "ParetoPoint",
    "PredictionData",
    "PredictionPanel",
    "ReplayData",
    "ReplayPanel",
    "ReportData",
    "Role",
    "Sample",
    "Series",
    "SusceptibilityData",
    "TrajectoryData",
    "TrajectoryLine",
    "cluster_figure",
    "collect",
    "completions_figure",
    "conditions_figure",
    "pareto_figure",
    "payload",
    "prediction_figure",
    "render",
    "replay_figure",
    "save_calibration_figure",
    "save_evaluation_figure",
    "save_harm_figure",
    "susceptibility_figure",
    "trajectory_figure",
    "write_cases_page",
    "write_report",
]
