from ._coherence import coherence, is_incoherent
from ._shape import MEASURES, nonsense, text_shape
from ._words import STOPWORDS

__all__ = [
    "MEASURES",
    "STOPWORDS",
    "coherence",
    "is_incoherent",
    "nonsense",
    "text_shape",
]
