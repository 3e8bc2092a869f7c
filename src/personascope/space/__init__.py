"""Role vectors, persona space, Assistant Axis, their uncertainty, and the PersonaMap."""

from personascope.space._build import MIN_FULLY, Space, SpaceStats, build_space
from personascope.space._map import PersonaMap
from personascope.space._meta import PERCENTILES, MapMeta, MapModel, Quantiles, projection_quantiles
from personascope.space._sums import BUCKETS, Bucket, FoldSums

__all__ = [
    "BUCKETS",
    "MIN_FULLY",
    "PERCENTILES",
    "Bucket",
    "FoldSums",
    "MapMeta",
    "MapModel",
    "PersonaMap",
    "Quantiles",
    "Space",
    "SpaceStats",
    "build_space",
    "projection_quantiles",
]
