from ._design import build_trait_design
from ._profile import TraitChanges, TraitProfile, resolve_trait_profile
from ._traits import TraitsResult, design_traits, kept_responses, pooled_responses, run_traits
from ._writer import ask_engine, ask_server, check_set_name, check_trait_name, check_writer, write_new_trait

__all__ = [
    "TraitChanges",
    "TraitProfile",
    "TraitsResult",
    "ask_engine",
    "ask_server",
    "build_trait_design",
    "check_set_name",
    "check_trait_name",
    "check_writer",
    "design_traits",
    "kept_responses",
    "pooled_responses",
    "resolve_trait_profile",
    "run_traits",
    "write_new_trait",
]
