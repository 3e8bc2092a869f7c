"""What a person sees: the HTML report of a persona map, pages of conversations, and figures."""

from personascope.report._cases_page import Brief, write_cases_page
from personascope.report._collect import collect
from personascope.report._data import Curves, Figure, ReportData, Role, Sample
from personascope.report._drift_data import (
    ClusterData,
    ClusterRow,
    PredictionData,
    PredictionPanel,
    ReplayData,
    ReplayPanel,
    TrajectoryData,
    TrajectoryLine,
)
from personascope.report._drift_figures import (
    cluster_figure,
    prediction_figure,
    replay_figure,
    trajectory_figure,
)
from personascope.report._evaluations import save_calibration_figure, save_evaluation_figure
from personascope.report._figure_data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from personascope.report._figures import (
    completions_figure,
    conditions_figure,
    pareto_figure,
    susceptibility_figure,
)
from personascope.report._harm_figure import save_harm_figure
from personascope.report._page import payload, render
from personascope.report._write import write_report

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
