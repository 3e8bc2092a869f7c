"""Persona dynamics: conversations, their trajectories along the axis, and what moves them (section 4)."""

from personascope.dynamics._context import context_length
from personascope.dynamics._probes import AXIS, NamedProbe, axis_probe, parse_probes
from personascope.dynamics._project import (
    UNIT,
    Projector,
    ProjectProgress,
    project_transcripts,
    run_projection,
    table_columns,
    table_rows,
)
from personascope.dynamics._projected import (
    Projected,
    ProjectedTurn,
    Projections,
    Reading,
    Status,
    read_projections,
    token_values,
    turn_row,
)
from personascope.dynamics._projection_summary import Counted, Low
from personascope.dynamics._types import Dialogue, DriftRun, Ended, Exchange

__all__ = [
    "AXIS",
    "UNIT",
    "Counted",
    "Dialogue",
    "DriftRun",
    "Ended",
    "Exchange",
    "Low",
    "NamedProbe",
    "ProjectProgress",
    "Projected",
    "ProjectedTurn",
    "Projections",
    "Projector",
    "Reading",
    "Status",
    "axis_probe",
    "context_length",
    "parse_probes",
    "project_transcripts",
    "read_projections",
    "run_projection",
    "table_columns",
    "table_rows",
    "token_values",
    "turn_row",
]
