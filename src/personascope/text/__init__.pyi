from ._brief import brief, shorten
from ._characters import escape_controls, escape_controls_in_json, replace_surrogates
from ._coherence import coherence, is_incoherent
from ._html import html_card
from ._shape import MEASURES, nonsense, text_shape
from ._words import STOPWORDS

__all__ = [
    "MEASURES",
    "STOPWORDS",
    "brief",
    "coherence",
    "escape_controls",
    "escape_controls_in_json",
    "html_card",
    "is_incoherent",
    "nonsense",
    "replace_surrogates",
    "shorten",
    "text_shape",
]
