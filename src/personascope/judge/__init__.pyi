from ._contract import Judge, JudgeItem, JudgeStats, Verdict
from ._offline import RulesJudge
from ._pool import JudgePool
from ._prompts import rubric_messages
from ._rubric import ROLE_SCORE, RUBRIC_DIGEST, Rubric
from ._rubrics import (
    HARMFUL,
    JAILBREAK,
    NONSENSICAL,
    ROLE_PLAYING,
    RUBRICS,
    SELF_DESCRIPTION,
    SUSCEPTIBILITY,
    TRAITS,
)
from ._spec import parse_judge
from .classifier._embedder import EMBEDDING, Embedder
from .classifier._features import BLOCKS, HAND, feature_matrix, features_digest, hand_features
from .classifier._judge import EmbeddingJudge, broken, overruled
from .classifier._weights import PROBE, WEIGHTS, LabelWeights
from .local._judge import LocalJudge
from .parsing._labels import parse_label
from .parsing._scores import parse_score
from .remote._judge import Estimate, OpenAIJudge, OpenAIOptions
from .rules._features import FIRST_PERSON, ai_mentions, decide, features

__all__ = [
    "BLOCKS",
    "EMBEDDING",
    "FIRST_PERSON",
    "HAND",
    "HARMFUL",
    "JAILBREAK",
    "NONSENSICAL",
    "PROBE",
    "ROLE_PLAYING",
    "ROLE_SCORE",
    "RUBRICS",
    "RUBRIC_DIGEST",
    "SELF_DESCRIPTION",
    "SUSCEPTIBILITY",
    "TRAITS",
    "WEIGHTS",
    "Embedder",
    "EmbeddingJudge",
    "Estimate",
    "Judge",
    "JudgeItem",
    "JudgePool",
    "JudgeStats",
    "LabelWeights",
    "LocalJudge",
    "OpenAIJudge",
    "OpenAIOptions",
    "Rubric",
    "RulesJudge",
    "Verdict",
    "ai_mentions",
    "broken",
    "decide",
    "feature_matrix",
    "features",
    "features_digest",
    "hand_features",
    "overruled",
    "parse_judge",
    "parse_label",
    "parse_score",
    "rubric_messages",
]
