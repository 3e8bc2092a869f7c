from ._build import build_space
from ._checks import NUISANCES, MapChecks, RolePlay, correlate
from ._map import PersonaMap, position
from ._meta import MapMeta, MapModel, Quantiles, projection_quantiles
from ._record import DIMENSIONS
from ._save import MAP
from ._space import Space, SpaceStats
from ._sums import Bucket, FoldDesign, FoldSums
from ._verdict import Finding, Verdict

__all__ = [
    "DIMENSIONS",
    "MAP",
    "NUISANCES",
    "Bucket",
    "Finding",
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
    "Verdict",
    "build_space",
    "correlate",
    "position",
    "projection_quantiles",
]
