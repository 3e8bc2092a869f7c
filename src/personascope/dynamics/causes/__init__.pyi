from ._clusters import Cluster, Clusters, cluster_messages
from ._find import Causes, find_causes
from ._messages import Encoder, Messages, embed_messages, messages_of
from ._prediction import Prediction, Shuffled, predict_from_messages

__all__ = [
    "Causes",
    "Cluster",
    "Clusters",
    "Encoder",
    "Messages",
    "Prediction",
    "Shuffled",
    "cluster_messages",
    "embed_messages",
    "find_causes",
    "messages_of",
    "predict_from_messages",
]
