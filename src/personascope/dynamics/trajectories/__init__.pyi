from ._by_domain import Trajectories, trajectories
from ._contrasts import Contrast, contrasts
from ._replays import Replays, compare_replays

__all__ = [
    "Contrast",
    "Replays",
    "Trajectories",
    "compare_replays",
    "contrasts",
    "trajectories",
]
