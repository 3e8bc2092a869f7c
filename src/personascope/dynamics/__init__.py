"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope.dynamics._alarms import Cusum, Rule, Threshold, first_alarm
from personascope.dynamics._auditor import (
    Answer,
    Asked,
    Auditor,
    Failed,
    Over,
    ReplayAuditor,
    Said,
    ScriptedAuditor,
)
from personascope.dynamics._auditor_models import LocalAuditor, OpenAIAuditor
from personascope.dynamics._auditor_spec import AUDITORS, parse_auditor
from personascope.dynamics._causes import Prediction, Shuffled, predict_from_messages
from personascope.dynamics._clusters import Cluster, Clusters, cluster_messages
from personascope.dynamics._conformal import Calibration
from personascope.dynamics._contrasts import MEASURES, Contrast, ContrastTest, contrasts
from personascope.dynamics._drift_run import read_drift
from personascope.dynamics._find_causes import Causes, find_causes
from personascope.dynamics._harm import HarmRun, PlanOn, run_harm
from personascope.dynamics._harm_design import HarmDesign, HarmTrial, Opening, harm_design, spread_roles
from personascope.dynamics._harm_result import (
    HarmResult,
    NoRole,
    RandomDirections,
    RoleHarm,
    TextHealth,
    harm_result,
)
from personascope.dynamics._harm_rows import HarmRows, read_harm
from personascope.dynamics._harm_stats import Bin, Correlation, CurvePoint, Logistic
from personascope.dynamics._messages import Encoder, Messages, embed_messages, messages_of
from personascope.dynamics._monitor import MONITOR_JSON, Monitor
from personascope.dynamics._monitor_baseline import Level, MonitorBaseline, Positions
from personascope.dynamics._monitor_fit import (
    ASSISTANT_LIKE,
    MonitorEvaluation,
    MonitorReport,
    calibrate_monitor,
    evaluate_monitor,
    positions_of,
    switched_of,
)
from personascope.dynamics._monitor_types import Action, MonitorEvent, MonitorSource, MonitorState, OnAlarm
from personascope.dynamics._play import SimulationProgress, from_message
from personascope.dynamics._probes import AXIS, NamedProbe, axis_probe, parse_probes
from personascope.dynamics._project import (
    UNIT,
    Projector,
    ProjectProgress,
    project_transcripts,
    run_projection,
    table_columns,
    table_rows,
)
from personascope.dynamics._projected import (
    Projected,
    ProjectedTurn,
    Projections,
    Reading,
    Status,
    read_projections,
    token_values,
    turn_row,
)
from personascope.dynamics._projection_summary import Counted, Low
from personascope.dynamics._replays import ReplayPair, Replays, ReplayTurn, compare_replays
from personascope.dynamics._scenes import CASES, Scene, case_scenes, cast_scenes, switched_scenes
from personascope.dynamics._simulate import Simulation, replay, simulate
from personascope.dynamics._streamer import DriftStreamer
from personascope.dynamics._trajectories import (
    MIN_DIALOGUES,
    DomainTrajectory,
    Trajectories,
    TurnMean,
    trajectories,
)
from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "ASSISTANT_LIKE",
    "AUDITORS",
    "AXIS",
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
    "Calibration",
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
    "NamedProbe",
    "NoRole",
    "OnAlarm",
    "OpenAIAuditor",
    "Opening",
    "Over",
    "PlanOn",
    "Positions",
    "Prediction",
    "ProjectProgress",
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
    "SimulationProgress",
    "Status",
    "TextHealth",
    "Threshold",
    "Trajectories",
    "TurnMean",
    "axis_probe",
    "calibrate_monitor",
    "case_scenes",
    "cast_scenes",
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
    "parse_probes",
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
    "spread_roles",
    "switched_of",
    "switched_scenes",
    "table_columns",
    "table_rows",
    "token_values",
    "trajectories",
    "turn_row",
]
