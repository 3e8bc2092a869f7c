from .compare_page._page import write_comparison
from .conversation_page._page import Brief, write_cases_page
from .figures._chats import ChatLine, ChatsData, chats_figure
from .figures._comparison import comparison_figure
from .figures._data import ConditionRow, ConditionsData, Estimate
from .figures._drift import cluster_figure, prediction_figure, replay_figure, trajectory_figure
from .figures._drift_data import ClusterData, PredictionData, ReplayData, TrajectoryData
from .figures._evaluation import conditions_figure
from .figures._from_tables import save_calibration_figure, save_evaluation_figure
from .figures._harm import save_harm_figure
from .figures._plot import Plot
from .figures._space import SpaceData, space_figure
from .figures._traits import traits_figure
from .map_page._gather import collect
from .map_page._results import ResultFiles
from .map_page._write import write_report

__all__ = [
    "Brief",
    "ChatLine",
    "ChatsData",
    "ClusterData",
    "ConditionRow",
    "ConditionsData",
    "Estimate",
    "Plot",
    "PredictionData",
    "ReplayData",
    "ResultFiles",
    "SpaceData",
    "TrajectoryData",
    "chats_figure",
    "cluster_figure",
    "collect",
    "comparison_figure",
    "conditions_figure",
    "prediction_figure",
    "replay_figure",
    "save_calibration_figure",
    "save_evaluation_figure",
    "save_harm_figure",
    "space_figure",
    "traits_figure",
    "trajectory_figure",
    "write_cases_page",
    "write_comparison",
    "write_report",
]
