"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

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
from personascope.dynamics._trajectories import (
    MIN_DIALOGUES,
    DomainTrajectory,
    Trajectories,
    TurnMean,
    trajectories,
)
from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "AUDITORS",
    "AXIS",
    "CASES",
    "MEASURES",
    "MIN_DIALOGUES",
    "UNIT",
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
    "Dialogue",
    "DomainTrajectory",
    "DriftRun",
    "Encoder",
    "Ended",
    "Exchange",
    "Failed",
    "HarmDesign",
    "HarmResult",
    "HarmRows",
    "HarmRun",
    "HarmTrial",
    "LocalAuditor",
    "Logistic",
    "Low",
    "Messages",
    "NamedProbe",
    "NoRole",
    "OpenAIAuditor",
    "Opening",
    "Over",
    "PlanOn",
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
    "Said",
    "Scene",
    "ScriptedAuditor",
    "Shuffled",
    "Simulation",
    "SimulationProgress",
    "Status",
    "TextHealth",
    "Trajectories",
    "TurnMean",
    "axis_probe",
    "case_scenes",
    "cast_scenes",
    "cluster_messages",
    "compare_replays",
    "contrasts",
    "embed_messages",
    "find_causes",
    "from_message",
    "harm_design",
    "harm_result",
    "messages_of",
    "parse_auditor",
    "parse_probes",
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
    "switched_scenes",
    "table_columns",
    "table_rows",
    "token_values",
    "trajectories",
    "turn_row",
]
