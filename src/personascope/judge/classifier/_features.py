"""Compute the features of the offline judge of labels: counted signs and sentence embeddings.

The signs are English; for another language only the embeddings carry information.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from personascope.judge._contract import JudgeItem
from personascope.judge._rubric import Rubric
from personascope.judge.classifier import _patterns as patterns
from personascope.judge.classifier._anchors import anchors_of
from personascope.judge.rules._features import ai_mentions, features
from personascope.text import MEASURES, STOPWORDS, text_shape

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Callable that returns unit embeddings of texts, [texts, width]."""

VERSION = 1
"""Version of the features, to raise whenever one changes; weights trained on other versions are refused."""

BLOCKS = ("hand", "response", "opening", "question", "product", "anchors")
"""Feature blocks that a classifier may read.

    hand: `hand_features`.
    response: Embedding of the response, which the model may cut (all-MiniLM-L6-v2: at 256 tokens).
    opening: Embedding of the first sentence of the response.
    question: Embedding of the question.
    product: Elementwise product of the question and response embeddings, and their cosine.
    anchors: Cosine of the response, and of its first sentence, to the nearest typical text of each label.
"""

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_OPENING_WORDS = 4
_OPENING_MOST = 40

_FROM_RULES = {
    "ai": 3.0,
    "refusal": 2.0,
    "stock_refusal": 1.0,
    "named_role": 1.0,
    "named": 1.0,
    "lived": 4.0,
    "role_words": 5.0,
    "theatre": 4.0,
    "self_claim": 3.0,
    "first_person": 15.0,
    "second_person": 10.0,
    "assistant_manner": 3.0,
    "listed": 6.0,
}
"""Features taken from the 0-3 rules, with the value at which each is capped."""

HAND = (
    *_FROM_RULES,
    "ai_anyway",
    "person",
    "made",
    "software_name",
    "esoteric",
    "religious",
    "moral",
    "says_yes",
    "says_no",
    "admits_role",
    "denies_role",
    "questions",
    "code",
    "echo",
    "follows_question",
    "log_words",
    *MEASURES,
)
"""Names of the counted features, in order."""


def text_of(item: JudgeItem) -> str:
    """Return the text to label: the response, or the opening with its completion."""
    if item.rubric.continues:
        return f"{item.question.rstrip()} {item.response.lstrip()}"
    return item.response


def first_sentence(text: str) -> str:
    """Return the leading sentences until they have four words, cut at 40 words."""
    taken: list[str] = []
    for sentence in _SENTENCE.split(text.strip()):
        taken += sentence.split()
        if len(taken) >= _OPENING_WORDS:
            break
    return " ".join(taken[:_OPENING_MOST])


def hand_features(item: JudgeItem) -> dict[str, float]:
    """Return the counted features of an item.

    Keys, besides those of `features` (capped) and of `text_shape`:
        ai_anyway: Number of ways of saying that one is an AI, even if the role is a machine or an assistant.
        person: Number of different signs of an ordinary human life.
        made: Number of different signs of a machine or a system.
        software_name: Number of names with digits, inner capitals or capitals only.
        esoteric, religious, moral: Words of these fields per 100 words (of at least 25).
        says_yes, says_no: Whether the response begins with a yes or a no.
        admits_role, denies_role: Number of different ways of saying that one plays a role, or does not.
        questions: Number of question marks, at most five.
        code: Whether there is code, markup or a URL.
        echo: Share of the question's content words that recur in the text.
        follows_question: Share of the text's content words that are in the question.
        log_words: Natural logarithm of 1 + number of words.
    """
    whole = text_of(item)
    text = whole.replace("\u2019", "'").replace("\u2018", "'")
    words = [word.lower() for word in _WORD.findall(text)]
    per_100 = 100.0 / max(len(words), 25)
    ruled = features(replace(item, response=whole))
    found = {name: min(ruled[name], cap) for name, cap in _FROM_RULES.items()}
    if not item.role:
        found["named_role"] = 0.0
    bare = replace(item, role="", system_prompt="", response=whole)
    asked = {word for word in _content(item.question) if not item.rubric.continues}
    said = set(_content(text))
    found |= {
        "ai_anyway": min(float(len(ai_mentions(bare))), 3.0),
        "person": min(_different(patterns.PERSON, text), 4.0),
        "made": min(_different(patterns.MADE, text), 4.0),
        "software_name": min(float(len(set(re.findall(patterns.NAMES_OF_SOFTWARE, text)))), 2.0),
        "esoteric": min(per_100 * _count(patterns.ESOTERIC, text), 25.0),
        "religious": min(per_100 * _count(patterns.RELIGIOUS, text), 20.0),
        "moral": min(per_100 * _count(patterns.MORAL, text), 15.0),
        "says_yes": float(bool(_regex(patterns.SAYS_YES).match(text))),
        "says_no": float(bool(_regex(patterns.SAYS_NO).match(text))),
        "admits_role": min(_different(patterns.ADMITS_ROLE, text), 3.0),
        "denies_role": min(_different(patterns.DENIES_ROLE, text), 3.0),
        "questions": float(min(text.count("?"), 5)),
        "code": float(bool(_regex(patterns.CODE).search(text))),
        "echo": len(asked & said) / len(asked) if asked else 0.0,
        "follows_question": len(asked & said) / len(said) if said else 0.0,
        "log_words": math.log1p(len(words)),
        **text_shape(whole),
    }
    return found


def feature_matrix(items: Sequence[JudgeItem], encode: Encode, blocks: Sequence[str]) -> NDArray[np.float32]:
    """Return the features of items of one rubric, [items, features], with blocks in the given order."""
    if not items:
        return np.zeros((0, 0), dtype=np.float32)
    texts = [text_of(item) for item in items]
    openings = [first_sentence(text) for text in texts]
    parts: list[NDArray[np.float32]] = []
    for block in blocks:
        if block == "hand":
            rows = [hand_features(item) for item in items]
            parts.append(np.array([[row[name] for name in HAND] for row in rows], dtype=np.float32))
        elif block == "response":
            parts.append(encode(texts))
        elif block == "opening":
            parts.append(encode(openings))
        elif block == "question":
            parts.append(encode([item.question for item in items]))
        elif block == "product":
            product = encode([item.question for item in items]) * encode(texts)
            parts += [product, product.sum(1, keepdims=True)]
        elif block == "anchors":
            parts += [_nearest(encode(texts), items[0].rubric, encode)]
            parts += [_nearest(encode(openings), items[0].rubric, encode)]
        else:
            raise ValueError(f"there is no feature block {block!r}")
    return np.concatenate(parts, axis=1)


def features_digest(rubric: Rubric) -> str:
    """Return the SHA-256 (hex) of the feature version, the feature names and a rubric's typical texts."""
    parts = [str(VERSION), *HAND, *(text for texts in anchors_of(rubric) for text in texts)]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def _nearest(vectors: NDArray[np.float32], rubric: Rubric, encode: Encode) -> NDArray[np.float32]:
    """Return the cosine of each vector to the nearest typical text of each label, [vectors, labels]."""
    return np.stack([(vectors @ encode(texts).T).max(1) for texts in anchors_of(rubric)], axis=1)


def _content(text: str) -> list[str]:
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    return [word for word in words if len(word) > 2 and word not in STOPWORDS]


@lru_cache(maxsize=512)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I)


def _count(pattern: str, text: str) -> int:
    return sum(1 for _ in _regex(pattern).finditer(text))


def _different(wanted: Iterable[str], text: str) -> float:
    return float(len({match[0].lower() for regex in wanted for match in _regex(regex).finditer(text)}))
