from ._controls import (
    CONTROLS,
    N_CONTROLS,
    Control,
    ControlKind,
    controls_of,
    kind_label,
    on_control,
    random_unit,
    read_kinds,
    require_roles,
)
from ._named import AXIS, NamedProbe, axis_probe, in_units, parse_probes
from ._norms import Norms
from ._norms_estimate import estimate_norms
from ._norms_file import NORMS, norms_for, read_norms
from ._plans import plan_model, steering_plan
from ._roles import nearest_roles, spread_roles

__all__ = [
    "AXIS",
    "CONTROLS",
    "NORMS",
    "N_CONTROLS",
    "Control",
    "ControlKind",
    "NamedProbe",
    "Norms",
    "axis_probe",
    "controls_of",
    "estimate_norms",
    "in_units",
    "kind_label",
    "nearest_roles",
    "norms_for",
    "on_control",
    "parse_probes",
    "plan_model",
    "random_unit",
    "read_kinds",
    "read_norms",
    "require_roles",
    "spread_roles",
    "steering_plan",
]
