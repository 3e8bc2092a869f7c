from ._characters import escape_controls, escape_controls_in_json, replace_surrogates
from ._coherence import coherence, is_incoherent
from ._shape import MEASURES, nonsense, text_shape
from ._words import STOPWORDS

__all__ = [
    "MEASURES",
    "STOPWORDS",
    "coherence",
    "escape_controls",
    "escape_controls_in_json",
    "is_incoherent",
    "nonsense",
    "replace_surrogates",
    "text_shape",
]
