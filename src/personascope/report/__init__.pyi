from .conversation_page._page import Brief, write_cases_page
from .figures._data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from .figures._drift import cluster_figure, prediction_figure, replay_figure, trajectory_figure
from .figures._drift_data import (
    ClusterData,
    ClusterRow,
    PredictionData,
    PredictionPanel,
    ReplayData,
    ReplayPanel,
    TrajectoryData,
    TrajectoryLine,
)
from .figures._evaluation import completions_figure, conditions_figure, pareto_figure, susceptibility_figure
from .figures._from_tables import save_calibration_figure, save_evaluation_figure
from .figures._harm import save_harm_figure
from .map_page._data import Curves, Figure, ReportData, Role, Sample
from .map_page._gather import collect
from .map_page._page import payload, render
from .map_page._write import write_report

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
