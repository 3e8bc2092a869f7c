"""The texts of the evaluations: what is asked, under which prompts, and on what ordinary chats.

Role susceptibility, persona jailbreaks, openings for pre-trained models, ordinary chats for residual
norms, and a small capability task that needs no network. The texts are our own; for each but the
capability task a user can name another file or dataset.
"""

from personascope._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
