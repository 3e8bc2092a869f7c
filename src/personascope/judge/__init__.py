"""Judges: who scores a response for its role or labels it by a rubric, beside generation."""

from personascope.judge._embedder import EMBEDDING, Embedder
from personascope.judge._embedding import EmbeddingJudge, broken, overruled
from personascope.judge._label_features import BLOCKS, HAND, feature_matrix, features_digest, hand_features
from personascope.judge._label_rubrics import (
    HARMFUL,
    JAILBREAK,
    NONSENSICAL,
    ROLE_PLAYING,
    RUBRICS,
    SELF_DESCRIPTION,
    SUSCEPTIBILITY,
    TRAITS,
)
from personascope.judge._local import LocalJudge
from personascope.judge._nonsense import nonsense, text_shape
from personascope.judge._openai import Estimate, OpenAIJudge, OpenAIOptions
from personascope.judge._parse import parse_score
from personascope.judge._parse_label import parse_label
from personascope.judge._pool import JudgePool
from personascope.judge._rubric import ROLE_SCORE, RUBRIC_DIGEST, Rubric, rubric_messages
from personascope.judge._rules import FIRST_PERSON, RulesJudge, ai_mentions, decide, features
from personascope.judge._spec import parse_judge
from personascope.judge._types import Judge, JudgeItem, JudgeStats, Verdict
from personascope.judge._weights import PROBE, WEIGHTS, LabelWeights

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
    "nonsense",
    "overruled",
    "parse_judge",
    "parse_label",
    "parse_score",
    "rubric_messages",
    "text_shape",
]
