"""Role vectors, persona space, Assistant Axis, their uncertainty, and the PersonaMap."""

from personascope.space._build import MIN_FULLY, build_space
from personascope.space._checks import FOLLOWED, NUISANCES, MapChecks, RolePlay, correlate
from personascope.space._map import PersonaMap
from personascope.space._meta import PERCENTILES, MapMeta, MapModel, Quantiles, projection_quantiles
from personascope.space._space import Space, SpaceStats
from personascope.space._sums import BUCKETS, Bucket, FoldDesign, FoldSums
from personascope.space._verdict import Finding, Grade, Verdict

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
