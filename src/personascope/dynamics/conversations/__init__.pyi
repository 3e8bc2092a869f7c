from ._auditor import Auditor
from ._auditor_spec import check_auditor, parse_auditor
from ._estimate import estimate_conversations, scripts_of, scripts_of_run
from ._scenarios import CASES, case_scenarios, sample_scenarios, switched_scenarios
from ._simulate import Simulation, replay, settings_of_run, simulate

__all__ = [
    "CASES",
    "Auditor",
    "Simulation",
    "case_scenarios",
    "check_auditor",
    "estimate_conversations",
    "parse_auditor",
    "replay",
    "sample_scenarios",
    "scripts_of",
    "scripts_of_run",
    "settings_of_run",
    "simulate",
    "switched_scenarios",
]
