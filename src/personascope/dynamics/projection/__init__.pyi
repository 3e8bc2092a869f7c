from ._records import Projected, read_projections, token_values, turn_row
from ._run import Projector, run_projection, table_columns, table_rows
from ._summary import Counted

__all__ = [
    "Counted",
    "Projected",
    "Projector",
    "read_projections",
    "run_projection",
    "table_columns",
    "table_rows",
    "token_values",
    "turn_row",
]
