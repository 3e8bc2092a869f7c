from ._characters import escape_controls, replace_surrogates
from ._coherence import coherence, is_incoherent
from ._shape import MEASURES, nonsense, text_shape
from ._words import STOPWORDS

__all__ = [
    "MEASURES",
    "STOPWORDS",
    "coherence",
    "escape_controls",
    "is_incoherent",
    "nonsense",
    "replace_surrogates",
    "text_shape",
]
