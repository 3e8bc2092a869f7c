from ._conversation import Dialogue, DriftRun, Ended, Exchange, topic_key
from ._records import read_drift

__all__ = [
    "Dialogue",
    "DriftRun",
    "Ended",
    "Exchange",
    "read_drift",
    "topic_key",
]
