from ._cap_counts import CapCounters, CapCounts
from ._cap_stats import CapStats
from ._flat import PackedCapCounters, PackedPlans, Segment
from ._fused import add_rows, compile_loops, keep_llvmlite_readable
from ._ops import REPLY_PARTS, Ablate, Cap, Op, Steer, unit_direction
from ._plan import Plan, PlanModel
from ._program import BatchedPlans, PlanTable
from ._token_spans import (
    TokenSpans,
    acting_spans,
    acts_on_prompt,
    acts_on_response,
    overlap,
    plan_for_part,
    reply_parts,
    tokens_acted_on,
)

__all__ = [
    "REPLY_PARTS",
    "Ablate",
    "BatchedPlans",
    "Cap",
    "CapCounters",
    "CapCounts",
    "CapStats",
    "Op",
    "PackedCapCounters",
    "PackedPlans",
    "Plan",
    "PlanModel",
    "PlanTable",
    "Segment",
    "Steer",
    "TokenSpans",
    "acting_spans",
    "acts_on_prompt",
    "acts_on_response",
    "add_rows",
    "compile_loops",
    "keep_llvmlite_readable",
    "overlap",
    "plan_for_part",
    "reply_parts",
    "tokens_acted_on",
    "unit_direction",
]
