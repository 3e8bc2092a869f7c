from ._build import MIN_FULLY, build_space
from ._checks import FOLLOWED, NUISANCES, MapChecks, RolePlay, correlate
from ._map import PersonaMap
from ._meta import PERCENTILES, MapMeta, MapModel, Quantiles, projection_quantiles
from ._space import Space, SpaceStats
from ._sums import BUCKETS, Bucket, FoldDesign, FoldSums
from ._verdict import Finding, Grade, Verdict

__all__ = [
    "BUCKETS",
    "FOLLOWED",
    "MIN_FULLY",
    "NUISANCES",
    "PERCENTILES",
    "Bucket",
    "Finding",
    "FoldDesign",
    "FoldSums",
    "Grade",
    "MapChecks",
    "MapMeta",
    "MapModel",
    "PersonaMap",
    "Quantiles",
    "RolePlay",
    "Space",
    "SpaceStats",
    "Verdict",
    "build_space",
    "correlate",
    "projection_quantiles",
]
