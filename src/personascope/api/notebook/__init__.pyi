from ._chats import Chat
from ._compare import ComparedMaps, compare
from ._direction import Direction
from ._evaluate import evaluate
from ._make import map
from ._model import Model, load, steered
from ._open import open
from ._persona_map import PersonaMap
from ._projected import ProjectedChats
from ._replies import ChatSession, Reply
from ._serve import Server, serve
from ._side_by_side import SideBySide
from ._traits import RankedTraits, traits
from ._verbs import calibrate, simulate

__all__ = [
    "Chat",
    "ChatSession",
    "ComparedMaps",
    "Direction",
    "Model",
    "PersonaMap",
    "ProjectedChats",
    "RankedTraits",
    "Reply",
    "Server",
    "SideBySide",
    "calibrate",
    "compare",
    "evaluate",
    "load",
    "map",
    "open",
    "serve",
    "simulate",
    "steered",
    "traits",
]
