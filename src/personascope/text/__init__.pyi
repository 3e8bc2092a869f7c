from ._brief import brief, shorten
from ._characters import escape_controls, escape_controls_in_json, replace_surrogates
from ._coherence import coherence, is_incoherent
from ._html import html_card
from ._secrets import HIDDEN, finds_secret, hide_bearer, hide_secrets
from ._shape import MEASURES, nonsense, text_shape
from ._words import STOPWORDS

__all__ = [
    "HIDDEN",
    "MEASURES",
    "STOPWORDS",
    "brief",
    "coherence",
    "escape_controls",
    "escape_controls_in_json",
    "finds_secret",
    "hide_bearer",
    "hide_secrets",
    "html_card",
    "is_incoherent",
    "nonsense",
    "replace_surrogates",
    "shorten",
    "text_shape",
]
