from ._check import Finding, check_corpus
from ._check_traits import check_traits
from ._load import load_corpus
from ._load_traits import holds, load_traits, trait_of
from ._schema import TraitData, validate
from ._traits import PAIRS_PER_TRAIT, POLES, TraitEntry, TraitPair, TraitSet
from ._types import PERSONAL, Corpus, Question, RoleEntry
from ._write import write_released
from ._write_traits import write_released_traits, write_trait

__all__ = [
    "PAIRS_PER_TRAIT",
    "PERSONAL",
    "POLES",
    "Corpus",
    "Finding",
    "Question",
    "RoleEntry",
    "TraitData",
    "TraitEntry",
    "TraitPair",
    "TraitSet",
    "check_corpus",
    "check_traits",
    "holds",
    "load_corpus",
    "load_traits",
    "trait_of",
    "validate",
    "write_released",
    "write_released_traits",
    "write_trait",
]
