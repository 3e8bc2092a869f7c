from ._auditor_spec import check_auditor, parse_auditor
from ._scenarios import CASES, case_scenarios, sample_scenarios, switched_scenarios
from ._simulate import Simulation, replay, simulate

__all__ = [
    "CASES",
    "Simulation",
    "case_scenarios",
    "check_auditor",
    "parse_auditor",
    "replay",
    "sample_scenarios",
    "simulate",
    "switched_scenarios",
]
