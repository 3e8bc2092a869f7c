from ._build import build_space
from ._checks import NUISANCES, MapChecks, RolePlay, correlate
from ._map import PersonaMap
from ._meta import MapMeta, MapModel, Quantiles, projection_quantiles
from ._save import MAP
from ._space import Space, SpaceStats
from ._sums import Bucket, FoldDesign, FoldSums

__all__ = [
    "MAP",
    "NUISANCES",
    "Bucket",
    "FoldDesign",
    "FoldSums",
    "MapChecks",
    "MapMeta",
    "MapModel",
    "PersonaMap",
    "Quantiles",
    "RolePlay",
    "Space",
    "SpaceStats",
    "build_space",
    "correlate",
    "projection_quantiles",
]
