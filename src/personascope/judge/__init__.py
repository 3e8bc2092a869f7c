"""Judges: who scores a response from 0 to 3 for its role, and how that runs beside generation."""

from personascope.judge._local import LocalJudge
from personascope.judge._openai import Estimate, OpenAIJudge, OpenAIOptions
from personascope.judge._parse import parse_score
from personascope.judge._pool import JudgePool
from personascope.judge._rubric import RUBRIC_DIGEST, rubric_messages
from personascope.judge._rules import RulesJudge, ai_mentions, decide, features
from personascope.judge._spec import parse_judge
from personascope.judge._types import Judge, JudgeItem, JudgeStats, Verdict

__all__ = [
    "RUBRIC_DIGEST",
    "Estimate",
    "Judge",
    "JudgeItem",
    "JudgePool",
    "JudgeStats",
    "LocalJudge",
    "OpenAIJudge",
    "OpenAIOptions",
    "RulesJudge",
    "Verdict",
    "ai_mentions",
    "decide",
    "features",
    "parse_judge",
    "parse_score",
    "rubric_messages",
]
