from ._ask import Admission
from ._plans import MapPlans, named_plans, open_maker
from ._positions import Positions
from ._reader import MapReader, open_reader
from ._server import open_socket, serve
from ._service import Service
from ._text import ReplyText

__all__ = [
    "Admission",
    "MapPlans",
    "MapReader",
    "Positions",
    "ReplyText",
    "Service",
    "named_plans",
    "open_maker",
    "open_reader",
    "open_socket",
    "serve",
]
