"""Interventions on the residual stream: steer, ablate, cap; the Plan that gathers them; their math."""

from personascope.interventions._flat import FlatCounters, FlatPass, Segment
from personascope.interventions._fused import add_rows, compile_loops, keep_llvmlite_readable
from personascope.interventions._ops import Ablate, Cap, Op, Steer, unit_direction
from personascope.interventions._plan import Plan, PlanModel
from personascope.interventions._program import (
    Extent,
    Pass,
    PlanTable,
    acting_spans,
    acts_on_prompt,
    acts_on_response,
    overlap,
    tokens_acted_on,
)
from personascope.interventions._tally import Counters, Tally
from personascope.interventions._telemetry import Telemetry

__all__ = [
    "Ablate",
    "Cap",
    "Counters",
    "Extent",
    "FlatCounters",
    "FlatPass",
    "Op",
    "Pass",
    "Plan",
    "PlanModel",
    "PlanTable",
    "Segment",
    "Steer",
    "Tally",
    "Telemetry",
    "acting_spans",
    "acts_on_prompt",
    "acts_on_response",
    "add_rows",
    "compile_loops",
    "keep_llvmlite_readable",
    "overlap",
    "tokens_acted_on",
    "unit_direction",
]
