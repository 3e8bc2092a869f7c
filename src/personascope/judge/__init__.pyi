from ._chain import THEN, JudgeChain, continues
from ._contract import Judge, JudgeItem, JudgeStats, Verdict
from ._offline import RulesJudge
from ._pool import JudgePool
from ._rubric import RUBRIC_DIGEST, Rubric
from ._rubrics import ADMITS_ROLE_PLAY, HARMFUL, JAILBREAK, RUBRICS, SELF_DESCRIPTION, SUSCEPTIBILITY, TRAITS
from ._spec import check_judge, parse_judge
from ._trait_score import REFUSAL, TRAIT_SCORE, points
from .classifier._embedder import Embedder
from .classifier._error_rate import error_rate, harm_caveat, harm_warning
from .classifier._judge import EmbeddingJudge
from .classifier._weights import WEIGHTS, LabelWeights
from .parsing._answer import body_of, objects_in
from .parsing._reasoning import without_reasoning
from .remote._client import CallError, Retries
from .remote._endpoint import Endpoint, parse_header, split_address
from .remote._judge import Estimate, OpenAIJudge
from .remote._model import ChatModel
from .rules._features import FIRST_PERSON, ai_mentions

__all__ = [
    "ADMITS_ROLE_PLAY",
    "FIRST_PERSON",
    "HARMFUL",
    "JAILBREAK",
    "REFUSAL",
    "RUBRICS",
    "RUBRIC_DIGEST",
    "SELF_DESCRIPTION",
    "SUSCEPTIBILITY",
    "THEN",
    "TRAITS",
    "TRAIT_SCORE",
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
    "body_of",
    "check_judge",
    "continues",
    "error_rate",
    "harm_caveat",
    "harm_warning",
    "objects_in",
    "parse_header",
    "parse_judge",
    "points",
    "split_address",
    "without_reasoning",
]
