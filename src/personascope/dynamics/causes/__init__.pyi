from ._clusters import Clusters, cluster_messages
from ._estimate import estimate_causes
from ._find import Causes, find_causes
from ._prediction import Prediction

__all__ = [
    "Causes",
    "Clusters",
    "Prediction",
    "cluster_messages",
    "estimate_causes",
    "find_causes",
]
