from ._alarms import Cusum, Rule, Threshold, first_alarm
from ._auditor import Answer, Asked, Auditor, Failed, Over, ReplayAuditor, Said, ScriptedAuditor
from ._auditor_models import LocalAuditor, OpenAIAuditor
from ._auditor_spec import AUDITORS, check_auditor, parse_auditor
from ._causes import Prediction, Shuffled, predict_from_messages
from ._clusters import Cluster, Clusters, cluster_messages
from ._contrasts import MEASURES, Contrast, ContrastTest, contrasts
from ._drift_run import read_drift
from ._find_causes import Causes, find_causes
from ._harm import HarmRun, PlanOn, run_harm
from ._harm_design import HarmDesign, HarmTrial, Opening, harm_design
from ._harm_result import HarmResult, NoRole, RandomDirections, RoleHarm, TextHealth, harm_result
from ._harm_rows import HarmRows, read_harm
from ._harm_stats import Bin, Correlation, CurvePoint, Logistic
from ._messages import Encoder, Messages, embed_messages, messages_of
from ._monitor import MONITOR_JSON, Monitor
from ._monitor_baseline import Level, MonitorBaseline, Positions
from ._monitor_fit import (
    ASSISTANT_LIKE,
    MonitorEvaluation,
    MonitorReport,
    calibrate_monitor,
    evaluate_monitor,
    positions_of,
    switched_of,
)
from ._monitor_types import Action, MonitorEvent, MonitorSource, MonitorState, OnAlarm
from ._play import from_message
from ._project import UNIT, Projector, project_transcripts, run_projection, table_columns, table_rows
from ._projected import (
    Projected,
    ProjectedTurn,
    Projections,
    Reading,
    Status,
    read_projections,
    token_values,
    turn_row,
)
from ._projection_summary import Counted, Low
from ._replays import ReplayPair, Replays, ReplayTurn, compare_replays
from ._scenes import CASES, Scene, case_scenes, cast_scenes, switched_scenes
from ._simulate import Simulation, replay, simulate
from ._streamer import DriftStreamer
from ._trajectories import MIN_DIALOGUES, DomainTrajectory, Trajectories, TurnMean, trajectories
from ._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "ASSISTANT_LIKE",
    "AUDITORS",
    "CASES",
    "MEASURES",
    "MIN_DIALOGUES",
    "MONITOR_JSON",
    "UNIT",
    "Action",
    "Answer",
    "Asked",
    "Auditor",
    "Bin",
    "Causes",
    "Cluster",
    "Clusters",
    "Contrast",
    "ContrastTest",
    "Correlation",
    "Counted",
    "CurvePoint",
    "Cusum",
    "Dialogue",
    "DomainTrajectory",
    "DriftRun",
    "DriftStreamer",
    "Encoder",
    "Ended",
    "Exchange",
    "Failed",
    "HarmDesign",
    "HarmResult",
    "HarmRows",
    "HarmRun",
    "HarmTrial",
    "Level",
    "LocalAuditor",
    "Logistic",
    "Low",
    "Messages",
    "Monitor",
    "MonitorBaseline",
    "MonitorEvaluation",
    "MonitorEvent",
    "MonitorReport",
    "MonitorSource",
    "MonitorState",
    "NoRole",
    "OnAlarm",
    "OpenAIAuditor",
    "Opening",
    "Over",
    "PlanOn",
    "Positions",
    "Prediction",
    "Projected",
    "ProjectedTurn",
    "Projections",
    "Projector",
    "RandomDirections",
    "Reading",
    "ReplayAuditor",
    "ReplayPair",
    "ReplayTurn",
    "Replays",
    "RoleHarm",
    "Rule",
    "Said",
    "Scene",
    "ScriptedAuditor",
    "Shuffled",
    "Simulation",
    "Status",
    "TextHealth",
    "Threshold",
    "Trajectories",
    "TurnMean",
    "calibrate_monitor",
    "case_scenes",
    "cast_scenes",
    "check_auditor",
    "cluster_messages",
    "compare_replays",
    "contrasts",
    "embed_messages",
    "evaluate_monitor",
    "find_causes",
    "first_alarm",
    "from_message",
    "harm_design",
    "harm_result",
    "messages_of",
    "parse_auditor",
    "positions_of",
    "predict_from_messages",
    "project_transcripts",
    "read_drift",
    "read_harm",
    "read_projections",
    "replay",
    "run_harm",
    "run_projection",
    "simulate",
    "switched_of",
    "switched_scenes",
    "table_columns",
    "table_rows",
    "token_values",
    "trajectories",
    "turn_row",
]
