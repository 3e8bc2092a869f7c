from ._records import (
    Projected,
    ProjectedTurn,
    Projections,
    Reading,
    Status,
    read_projections,
    token_values,
    turn_row,
)
from ._run import UNIT, Projector, project_transcripts, run_projection, table_columns, table_rows
from ._summary import Counted, Low

__all__ = [
    "UNIT",
    "Counted",
    "Low",
    "Projected",
    "ProjectedTurn",
    "Projections",
    "Projector",
    "Reading",
    "Status",
    "project_transcripts",
    "read_projections",
    "run_projection",
    "table_columns",
    "table_rows",
    "token_values",
    "turn_row",
]
