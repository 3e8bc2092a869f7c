from ._design import DESIGN, TraitDesign, build_trait_design
from ._profile import TRAIT_PROFILES, TraitChanges, TraitProfile, resolve_trait_profile
from ._run import TraitsCollected, collect_traits, open_trait_run
from ._sums import TraitSums
from ._traits import TraitsResult, design_traits, kept_responses, pooled_responses, publish_traits, run_traits
from ._writer import ask_engine, ask_server, check_set_name, check_trait_name, check_writer, write_new_trait

__all__ = [
    "DESIGN",
    "TRAIT_PROFILES",
    "TraitChanges",
    "TraitDesign",
    "TraitProfile",
    "TraitSums",
    "TraitsCollected",
    "TraitsResult",
    "ask_engine",
    "ask_server",
    "build_trait_design",
    "check_set_name",
    "check_trait_name",
    "check_writer",
    "collect_traits",
    "design_traits",
    "kept_responses",
    "open_trait_run",
    "pooled_responses",
    "publish_traits",
    "resolve_trait_profile",
    "run_traits",
    "write_new_trait",
]
