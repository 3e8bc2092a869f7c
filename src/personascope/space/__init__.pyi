from ._build import build_space
from ._checks import NUISANCES, MapChecks, RolePlay, correlate
from ._map import PersonaMap, position
from ._map_traits import MapTraits, Population, TraitMeta, TraitPlace, save_traits
from ._meta import PERCENTILES, MapMeta, MapModel, Quantiles, projection_quantiles
from ._record import DIMENSIONS
from ._save import MAP
from ._space import Space, SpaceStats
from ._sums import Bucket, FoldDesign, FoldSums
from ._trait_space import TraitSpace, build_trait_space
from ._verdict import Finding, Verdict

__all__ = [
    "DIMENSIONS",
    "MAP",
    "NUISANCES",
    "PERCENTILES",
    "Bucket",
    "Finding",
    "FoldDesign",
    "FoldSums",
    "MapChecks",
    "MapMeta",
    "MapModel",
    "MapTraits",
    "PersonaMap",
    "Population",
    "Quantiles",
    "RolePlay",
    "Space",
    "SpaceStats",
    "TraitMeta",
    "TraitPlace",
    "TraitSpace",
    "Verdict",
    "build_space",
    "build_trait_space",
    "correlate",
    "position",
    "projection_quantiles",
    "save_traits",
]
