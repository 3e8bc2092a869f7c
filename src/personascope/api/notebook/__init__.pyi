from ._chats import Chat
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
from ._verbs import calibrate, simulate

__all__ = [
    "Chat",
    "ChatSession",
    "Direction",
    "Model",
    "PersonaMap",
    "ProjectedChats",
    "Reply",
    "Server",
    "SideBySide",
    "calibrate",
    "evaluate",
    "load",
    "map",
    "open",
    "serve",
    "simulate",
    "steered",
]
