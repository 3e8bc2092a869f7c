from ._estimate import estimate_projection
from ._records import SUMMARY, TABLE, Projected, read_projections, token_values, turn_row
from ._run import Projector, run_projection, table_columns, table_rows
from ._summary import Counted

__all__ = [
    "SUMMARY",
    "TABLE",
    "Counted",
    "Projected",
    "Projector",
    "estimate_projection",
    "read_projections",
    "run_projection",
    "table_columns",
    "table_rows",
    "token_values",
    "turn_row",
]
