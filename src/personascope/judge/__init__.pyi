from ._chain import JudgeChain, continues
from ._contract import Judge, JudgeItem, JudgeStats, Verdict
from ._offline import RulesJudge
from ._pool import JudgePool
from ._rubric import RUBRIC_DIGEST, Rubric
from ._rubrics import HARMFUL, JAILBREAK, ROLE_PLAYING, RUBRICS, SELF_DESCRIPTION, SUSCEPTIBILITY, TRAITS
from ._spec import check_judge, parse_judge
from .classifier._embedder import Embedder
from .classifier._error_rate import error_rate, harm_caveat, harm_warning
from .classifier._features import HAND, feature_matrix, features_digest
from .classifier._judge import EmbeddingJudge, broken, overruled
from .classifier._weights import PROBE, WEIGHTS, LabelWeights
from .parsing._reasoning import without_reasoning
from .remote._client import CallError, Retries
from .remote._endpoint import Endpoint, parse_header, split_address
from .remote._judge import Estimate, OpenAIJudge
from .remote._model import ChatModel
from .rules._features import FIRST_PERSON, ai_mentions

__all__ = [
    "FIRST_PERSON",
    "HAND",
    "HARMFUL",
    "JAILBREAK",
    "PROBE",
    "ROLE_PLAYING",
    "RUBRICS",
    "RUBRIC_DIGEST",
    "SELF_DESCRIPTION",
    "SUSCEPTIBILITY",
    "TRAITS",
    "WEIGHTS",
    "CallError",
    "ChatModel",
    "Embedder",
    "EmbeddingJudge",
    "Endpoint",
    "Estimate",
    "Judge",
    "JudgeChain",
    "JudgeItem",
    "JudgePool",
    "JudgeStats",
    "LabelWeights",
    "OpenAIJudge",
    "Retries",
    "Rubric",
    "RulesJudge",
    "Verdict",
    "ai_mentions",
    "broken",
    "check_judge",
    "continues",
    "error_rate",
    "feature_matrix",
    "features_digest",
    "harm_caveat",
    "harm_warning",
    "overruled",
    "parse_header",
    "parse_judge",
    "split_address",
    "without_reasoning",
]
