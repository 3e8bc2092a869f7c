from ._conversation import Dialogue, DriftRun, Exchange, topic_key
from ._records import read_drift

__all__ = [
    "Dialogue",
    "DriftRun",
    "Exchange",
    "read_drift",
    "topic_key",
]
