"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = ["Dialogue", "DriftRun", "Ended", "Exchange"]
