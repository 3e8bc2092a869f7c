from ._build import build_space
from ._checks import NUISANCES, MapChecks, OtherVectors, RolePlay, correlate
from ._curve import CurvePoint, LearningCurve, curve_point
from ._map import PersonaMap, position
from ._map_traits import MapTraits, Population, TraitMeta, TraitPlace, save_traits
from ._meta import PERCENTILES, MapMeta, MapModel, Quantiles, projection_quantiles
from ._positions import Z95
from ._precision import LayerSums, Precision, cosine_of, layer_sums, measure_precision, split_half_of
from ._record import DIMENSIONS
from ._save import MAP
from ._space import Space, SpaceStats
from ._sums import Bucket, FoldDesign, FoldSums
from ._trait_space import TraitSpace, build_trait_space
from ._verdict import Finding, Verdict, other_vectors

__all__ = [
    "DIMENSIONS",
    "MAP",
    "NUISANCES",
    "PERCENTILES",
    "Z95",
    "Bucket",
    "CurvePoint",
    "Finding",
    "FoldDesign",
    "FoldSums",
    "LayerSums",
    "LearningCurve",
    "MapChecks",
    "MapMeta",
    "MapModel",
    "MapTraits",
    "OtherVectors",
    "PersonaMap",
    "Population",
    "Precision",
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
    "cosine_of",
    "curve_point",
    "layer_sums",
    "measure_precision",
    "other_vectors",
    "position",
    "projection_quantiles",
    "save_traits",
    "split_half_of",
]
