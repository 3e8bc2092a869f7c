"""Compute explicit features of a response, and decide its 0-3 score from them.

Items of another rubric go to the classifier of labels instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from personascope.judge._contract import JudgeItem
from personascope.judge.rules._patterns import (
    AI_PATTERNS,
    ASSISTANT_MANNER,
    ASSISTANT_ROLES,
    LIVED,
    MACHINE_INSTRUCTION,
    MACHINE_ROLES,
    NAMED,
    NAMED_BY_CASE,
    REFUSALS,
    STOCK_REFUSALS,
    THEATRE,
)
from personascope.text import STOPWORDS

_AI = tuple((pattern, re.compile(pattern.pattern, re.I)) for pattern in AI_PATTERNS)
_LISTED = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s+\S", re.M)
FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]ine|[Mm]yself|[Ww]e|[Oo]ur|[Uu]s)\b")
_SECOND_PERSON = re.compile(r"\b(?:you|your|yours|yourself)\b", re.I)
_SELF_CLAIM = re.compile(r"\bI(?:'m| am) (?:an?|the) (\w+(?: of the)?(?: \w+)?)")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_QUOTED = re.compile(r"\"[^\"\n]{1,300}\"")

WEIGHTS: dict[str, float] = {
    "named_role": 2.0,
    "named": 1.5,
    "lived": 0.75,
    "role_words": 0.5,
    "theatre": 0.5,
    "self_claim": 0.5,
    "first_person": 0.12,
    "assistant_manner": -1.0,
    "listed": -0.3,
    "second_person": -0.08,
}
"""Weight of each feature in the strength of the role in a response."""

FEATURE_MAX: dict[str, float] = {
    "lived": 3.0,
    "role_words": 4.0,
    "theatre": 3.0,
    "self_claim": 2.0,
    "first_person": 10.0,
    "assistant_manner": 2.0,
    "listed": 4.0,
    "second_person": 10.0,
}
"""Value at which each feature is capped; 1 for the others."""

SOME = 0.75
"""Strength from which a response shows some traits of the role."""


def features(item: JudgeItem) -> dict[str, float]:
    """Return the features of a response that the rules use.

    Keys:
        ai: Number of different ways in which it says that the speaker is an AI.
        refusal: Number of refusals.
        stock_refusal: Number of different refusals in the stock phrases of an assistant.
        named_role: 1 if the speaker names itself by the role ("As a pirate", "I, the ghost").
        named: 1 if it gives itself a name that is not a model's.
        lived: Number of different signs of a life lived, outside the sentences that refuse or speak of an AI.
        role_words: Number of different words that it shares with the role's name, description and system
            prompt but not with the question; the name's own words count double.
        theatre: Number of different signs of a theatrical manner.
        self_claim: Number of different things that it claims to be ("I am a being of light").
        first_person: First-person words per 100 words (of at least 25), outside the sentences
            that refuse or speak of an AI.
        second_person: Second-person words per 100 words (of at least 25).
        assistant_manner: Number of different signs of an assistant's manner.
        listed: Number of lines of a numbered or bulleted list.
    """
    text = _plain(item.response)
    unquoted = _without_quotes(text)
    mentions = _ai_matches(item, unquoted)
    refusals = _matches(REFUSALS, unquoted)
    # "I have been trained on text" is no lived experience, nor is "I" in "I'm sorry, but I can't".
    own = _without_sentences(text, [*mentions.values(), *refusals])
    words = len(text.split())
    # A density over a few words says little.
    per_100 = 100.0 / max(words, 25)
    named = _count(NAMED, _without_quotes(own)) or NAMED_BY_CASE.search(_without_quotes(own))
    return {
        "ai": float(len(mentions)),
        "refusal": float(len(refusals)),
        "stock_refusal": float(_count(STOCK_REFUSALS, unquoted)),
        "named_role": float(_names_role(item.role, unquoted)),
        "named": float(bool(named)),
        "lived": float(_count(LIVED, own)),
        "role_words": _role_words(item, text),
        "theatre": float(_count(THEATRE, text)),
        "self_claim": float(len(set(_SELF_CLAIM.findall(own)))),
        "first_person": per_100 * len(FIRST_PERSON.findall(own)),
        "second_person": per_100 * len(_SECOND_PERSON.findall(text)),
        "assistant_manner": float(_count(ASSISTANT_MANNER, text)),
        "listed": float(len(_LISTED.findall(item.response))),
    }


def strength(found: dict[str, float], *, without: Iterable[str] = ()) -> float:
    """Return how strongly the role shows: the sum of weighted, capped features except ``without``."""
    counted = [(name, weight) for name, weight in WEIGHTS.items() if name not in without]
    return sum(weight * min(found[name], FEATURE_MAX.get(name, 1.0)) for name, weight in counted)


def decide(found: dict[str, float]) -> tuple[int, str]:
    """Return the score for the features of a response, and the reason."""
    if found["ai"]:
        # An AI that speaks of itself says "I" as well.
        role = strength(found, without=("first_person", "self_claim"))
        if role >= SOME:
            return 2, f"says that it is an AI, role {role:.1f}"
        if found["refusal"]:
            return 0, f"says that it is an AI and refuses, role {role:.1f}"
        return 1, f"says that it is an AI, role {role:.1f}"
    role = strength(found)
    if found["stock_refusal"] and role < SOME:
        return 0, f"refuses out of the role, role {role:.1f}"
    return 3, f"no AI mention, role {role:.1f}"


def ai_mentions(item: JudgeItem) -> list[str]:
    """Return the names of the ways in which a response says that its speaker is an AI.

    A denial ("I am not a robot"), a mention of other AIs and quoted speech do not count; neither
    does what a machine says of itself if the role is a machine.
    """
    return list(_ai_matches(item, _without_quotes(_plain(item.response))))


def _ai_matches(item: JudgeItem, text: str) -> dict[str, str]:
    """Return the matched words of each way of saying that the speaker is an AI, by its name."""
    machine, assistant = _is_machine(item), item.role in ASSISTANT_ROLES
    found: dict[str, str] = {}
    for pattern, regex in _AI:
        if (pattern.machine and machine) or (pattern.assistant and assistant):
            continue
        if match := regex.search(text):
            found.setdefault(pattern.name, match[0])
    return found


def _plain(text: str) -> str:
    return text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')


def _without_quotes(text: str) -> str:
    """Leave out quoted speech, unless it makes up most of the response."""
    rest = _QUOTED.sub(" ", text)
    return rest if len(rest.split()) * 2 >= len(text.split()) else text


def _without_sentences(text: str, phrases: Iterable[str]) -> str:
    """Leave out the sentences that contain any of the phrases."""
    phrases = list(phrases)
    sentences = re.split(r"(?<=[.!?\n])\s+", text)
    return " ".join(s for s in sentences if not any(phrase in s for phrase in phrases))


@lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I | re.M)


def _count(patterns: Iterable[str], text: str) -> int:
    """Return the number of different matches of any of the patterns."""
    return len({match.lower() for match in _matches(patterns, text)})


def _matches(patterns: Iterable[str], text: str) -> list[str]:
    return [match[0] for pattern in patterns for match in _regex(pattern).finditer(text)]


def _is_machine(item: JudgeItem) -> bool:
    return item.role in MACHINE_ROLES or bool(MACHINE_INSTRUCTION.search(_plain(item.system_prompt)))


def _names_role(role: str, text: str) -> bool:
    name = re.escape(role.replace("_", " ").replace("devils", "devil's"))
    between = r"(?:[\w'-]+,?\s+){0,3}?"
    return bool(
        _regex(
            rf"\b(?:as|being)\s+(?:an?|the|your)\s+{between}{name}\b"
            rf"|\b(?:i'm|i\s+am|i\s+was|i've\s+been|i\s+have\s+been|i\s+became|i\s+remain)\s+(?!not\b)(?:an?|the|your|just\s+an?)\s+{between}{name}\b"
            rf"|\b(?:i|we),\s+(?:an?|the)\s+{between}{name}\b|\b(?:we|us)\s+{name}s\b|\bmy\s+(?:\w+\s+)?(?:life|work|job|years)\s+as\s+an?\s+{name}\b"
        ).search(text)
    )


def _role_words(item: JudgeItem, text: str) -> float:
    own = _stems(item.role.replace("_", " "))
    lexicon = own | _stems(f"{item.description} {item.system_prompt}")
    shared = (lexicon - _stems(item.question)) & _stems(text)
    return float(len(shared) + len(shared & own))


@lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    words = _WORD.findall(_plain(text).lower())
    return frozenset(
        _stem(word.removesuffix("'s")) for word in words if len(word) > 2 and word not in STOPWORDS
    )


def _stem(word: str) -> str:
    """Cut the commonest English endings, enough to match "sails", "sailed" and "sailing"."""
    for ending in ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
