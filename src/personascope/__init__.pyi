from .api.notebook import (
    PersonaMap,
    calibrate,
    evaluate,
    load,
    map,
    open,
    serve,
    simulate,
    steered,
)
from .dynamics.monitor import Monitor
from .interventions import Cap, Plan, Steer

__version__: str

__all__ = [
    "Cap",
    "Monitor",
    "PersonaMap",
    "Plan",
    "Steer",
    "calibrate",
    "evaluate",
    "load",
    "map",
    "open",
    "serve",
    "simulate",
    "steered",
]
