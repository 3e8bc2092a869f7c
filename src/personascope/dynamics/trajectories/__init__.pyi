from ._by_domain import MIN_DIALOGUES, DomainTrajectory, Trajectories, TurnMean, trajectories
from ._contrasts import MEASURES, Contrast, ContrastTest, contrasts
from ._replays import ReplayPair, Replays, ReplayTurn, compare_replays

__all__ = [
    "MEASURES",
    "MIN_DIALOGUES",
    "Contrast",
    "ContrastTest",
    "DomainTrajectory",
    "ReplayPair",
    "ReplayTurn",
    "Replays",
    "Trajectories",
    "TurnMean",
    "compare_replays",
    "contrasts",
    "trajectories",
]
