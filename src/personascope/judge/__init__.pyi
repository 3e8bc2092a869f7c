from ._embedder import EMBEDDING, Embedder
from ._embedding import EmbeddingJudge, broken, overruled
from ._label_features import BLOCKS, HAND, feature_matrix, features_digest, hand_features
from ._label_rubrics import (
    HARMFUL,
    JAILBREAK,
    NONSENSICAL,
    ROLE_PLAYING,
    RUBRICS,
    SELF_DESCRIPTION,
    SUSCEPTIBILITY,
    TRAITS,
)
from ._local import LocalJudge
from ._openai import Estimate, OpenAIJudge, OpenAIOptions
from ._parse import parse_score
from ._parse_label import parse_label
from ._pool import JudgePool
from ._rubric import ROLE_SCORE, RUBRIC_DIGEST, Rubric, rubric_messages
from ._rules import FIRST_PERSON, RulesJudge, ai_mentions, decide, features
from ._spec import parse_judge
from ._types import Judge, JudgeItem, JudgeStats, Verdict
from ._weights import PROBE, WEIGHTS, LabelWeights

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
