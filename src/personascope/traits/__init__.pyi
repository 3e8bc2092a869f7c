from ._design import DESIGN, TraitDesign, build_trait_design
from ._profile import TRAIT_PROFILES, TraitChanges, TraitProfile, resolve_trait_profile
from ._run import TraitsCollected, collect_traits, open_trait_run
from ._sums import TraitSums
from ._traits import TraitsResult, design_traits, kept_responses, publish_traits, run_traits

__all__ = [
    "DESIGN",
    "TRAIT_PROFILES",
    "TraitChanges",
    "TraitDesign",
    "TraitProfile",
    "TraitSums",
    "TraitsCollected",
    "TraitsResult",
    "build_trait_design",
    "collect_traits",
    "design_traits",
    "kept_responses",
    "open_trait_run",
    "publish_traits",
    "resolve_trait_profile",
    "run_traits",
]
