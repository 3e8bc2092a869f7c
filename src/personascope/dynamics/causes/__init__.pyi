from ._clusters import Clusters, cluster_messages
from ._find import Causes, find_causes
from ._prediction import Prediction

__all__ = [
    "Causes",
    "Clusters",
    "Prediction",
    "cluster_messages",
    "find_causes",
]
