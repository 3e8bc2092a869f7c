from ._design import HarmDesign, HarmTrial, Opening, harm_design
from ._result import HarmResult, NoRole, RandomDirections, RoleHarm, TextHealth, harm_result
from ._rows import HarmRows, read_harm
from ._run import HarmRun, PlanOn, run_harm
from ._statistics import Bin, Correlation, CurvePoint, Logistic

__all__ = [
    "Bin",
    "Correlation",
    "CurvePoint",
    "HarmDesign",
    "HarmResult",
    "HarmRows",
    "HarmRun",
    "HarmTrial",
    "Logistic",
    "NoRole",
    "Opening",
    "PlanOn",
    "RandomDirections",
    "RoleHarm",
    "TextHealth",
    "harm_design",
    "harm_result",
    "read_harm",
    "run_harm",
]
