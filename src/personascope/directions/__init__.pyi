from ._named import AXIS, NamedProbe, axis_probe, in_units, parse_probes
from ._norms import Norms
from ._norms_file import NORMS, norms_for
from ._plans import plan_model, steering_plan
from ._random import on_random_direction, random_unit
from ._roles import nearest_roles, spread_roles

__all__ = [
    "AXIS",
    "NORMS",
    "NamedProbe",
    "Norms",
    "axis_probe",
    "in_units",
    "nearest_roles",
    "norms_for",
    "on_random_direction",
    "parse_probes",
    "plan_model",
    "random_unit",
    "spread_roles",
    "steering_plan",
]
