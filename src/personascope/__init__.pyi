from .api.notebook import (
    PersonaMap,
    calibrate,
    compare,
    evaluate,
    load,
    map,
    open,
    serve,
    simulate,
    steered,
    traits,
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
