from ._flat import FlatCounters, FlatPass, Segment
from ._fused import add_rows, compile_loops, keep_llvmlite_readable
from ._ops import Ablate, Cap, Op, Steer, unit_direction
from ._plan import Plan, PlanModel
from ._program import Pass, PlanTable
from ._tally import Counters, Tally
from ._telemetry import Telemetry
from ._token_spans import (
    Extent,
    acting_spans,
    acts_on_prompt,
    acts_on_response,
    overlap,
    tokens_acted_on,
)

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
