from ._compare import MIN_SHARED, compare
from ._types import (
    ApartRow,
    BetweenRow,
    ComponentMatch,
    ComponentMatching,
    DefaultPlaces,
    Dimensions,
    Geometry,
    MapComparison,
    MapSummary,
    PairComparison,
    PairFigure,
    RoleAgreement,
    Statistic,
)

__all__ = [
    "MIN_SHARED",
    "ApartRow",
    "BetweenRow",
    "ComponentMatch",
    "ComponentMatching",
    "DefaultPlaces",
    "Dimensions",
    "Geometry",
    "MapComparison",
    "MapSummary",
    "PairComparison",
    "PairFigure",
    "RoleAgreement",
    "Statistic",
    "compare",
]
