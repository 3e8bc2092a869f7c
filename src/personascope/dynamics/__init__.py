"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope.dynamics._harm import HarmRun, PlanOn, run_harm
from personascope.dynamics._harm_design import HarmDesign, HarmTrial, Opening, harm_design, spread_roles
from personascope.dynamics._harm_result import (
    HarmResult,
    NoRole,
    RandomDirections,
    RoleHarm,
    TextHealth,
    harm_result,
)
from personascope.dynamics._harm_rows import HarmRows, read_harm
from personascope.dynamics._harm_stats import Bin, Correlation, CurvePoint, Logistic
from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "Bin",
    "Correlation",
    "CurvePoint",
    "Dialogue",
    "DriftRun",
    "Ended",
    "Exchange",
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
    "spread_roles",
]
