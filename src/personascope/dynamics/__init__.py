"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope.dynamics._causes import Prediction, Shuffled, predict_from_messages
from personascope.dynamics._clusters import Cluster, Clusters, cluster_messages
from personascope.dynamics._contrasts import MEASURES, Contrast, ContrastTest, contrasts
from personascope.dynamics._find_causes import Causes, find_causes
from personascope.dynamics._messages import Encoder, Messages, embed_messages, messages_of
from personascope.dynamics._replays import ReplayPair, Replays, ReplayTurn, compare_replays
from personascope.dynamics._trajectories import (
    MIN_DIALOGUES,
    DomainTrajectory,
    Trajectories,
    TurnMean,
    trajectories,
)
from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "MEASURES",
    "MIN_DIALOGUES",
    "Causes",
    "Cluster",
    "Clusters",
    "Contrast",
    "ContrastTest",
    "Dialogue",
    "DomainTrajectory",
    "DriftRun",
    "Encoder",
    "Ended",
    "Exchange",
    "Messages",
    "Prediction",
    "ReplayPair",
    "ReplayTurn",
    "Replays",
    "Shuffled",
    "Trajectories",
    "TurnMean",
    "cluster_messages",
    "compare_replays",
    "contrasts",
    "embed_messages",
    "find_causes",
    "messages_of",
    "predict_from_messages",
    "trajectories",
]
