from ._auditor import (
    Answer,
    Auditor,
    AuditorFailure,
    EndConversation,
    ReplayAuditor,
    ScriptedAuditor,
    UserMessage,
    UserTurnRequest,
)
from ._auditor_models import LocalAuditor, OpenAIAuditor
from ._auditor_spec import AUDITORS, check_auditor, parse_auditor
from ._driver import from_message
from ._scenarios import CASES, Scenario, case_scenarios, sample_scenarios, switched_scenarios
from ._simulate import Simulation, replay, simulate

__all__ = [
    "AUDITORS",
    "CASES",
    "Answer",
    "Auditor",
    "AuditorFailure",
    "EndConversation",
    "LocalAuditor",
    "OpenAIAuditor",
    "ReplayAuditor",
    "Scenario",
    "ScriptedAuditor",
    "Simulation",
    "UserMessage",
    "UserTurnRequest",
    "case_scenarios",
    "check_auditor",
    "from_message",
    "parse_auditor",
    "replay",
    "sample_scenarios",
    "simulate",
    "switched_scenarios",
]
