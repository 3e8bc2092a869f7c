from ._conversation import Dialogue, DriftRun, Turn
from ._records import read_drift

__all__ = [
    "Dialogue",
    "DriftRun",
    "Turn",
    "read_drift",
]
