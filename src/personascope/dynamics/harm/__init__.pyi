from ._design import harm_design
from ._estimate import estimate_harm
from ._result import HarmResult, harm_result
from ._rows import read_harm
from ._run import HarmRun, PlanOn, run_harm
from ._statistics import Correlation

__all__ = [
    "Correlation",
    "HarmResult",
    "HarmRun",
    "PlanOn",
    "estimate_harm",
    "harm_design",
    "harm_result",
    "read_harm",
    "run_harm",
]
