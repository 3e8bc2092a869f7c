"""Reading a score out of whatever a judge model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TypeVar, cast

Answer = TypeVar("Answer", int, str)

_WORDS = {"zero": 0, "one": 1, "two": 2, "three": 3}
_THINKING = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S | re.I)
_OPENING = re.compile(r"<think(?:ing)?>", re.I)
_CLOSING = re.compile(r"</think(?:ing)?>", re.I)
_FENCE = re.compile(r"```(?:json)?", re.I)
_OBJECT = re.compile(r'\{\s*"')

# A number that is not part of a longer one, of a decimal, or of a range.
_DIGITS = r"(?<![\w.,+\-\u2013\u2212/])(?P<value>[0-9]+)(?![\w%]|[.,][0-9])"
_DIGITS_OR_WORD = r"(?<![\w.,+\-\u2013\u2212/])(?P<value>[0-9]+|zero|one|two|three)(?![\w%]|[.,][0-9])"
_OUT_OF = r"(?:\s*(?:/|(?:out\s+)?of)\s*(?P<top>[0-9]+)(?![\w%]|[.,][0-9]))?"
_NO_CHOICE = (
    r"(?!\s*[(,]*\s*(?:[-\u2013\u2212/,&~]|to\b|or\b|and\b|through\b|out\s+of\b|of\b|maybe\b|perhaps\b|possibly\b)"
    r"\s*(?:or\s+|perhaps\s+|maybe\s+|possibly\s+|even\s+|an?\s+)*(?:[0-9]|(?:zero|one|two|three)\b))"
)
# "A score of 3 means ..." explains the scale.
_NO_ECHO = r"(?!\s*[\"']?\s*(?:means?\b|is (?:for|given|used|when)\b|if\b|when\b|would\b|requires?\b))"
_AFTER = _OUT_OF + _NO_CHOICE + _NO_ECHO

_ALONE = re.compile(rf"[\s\"'(\[]*{_DIGITS_OR_WORD}{_AFTER}[\s\"')\].!]*\Z", re.I)
_LABELLED = re.compile(
    r"\b(?:score|rating|grade|verdict)\b(?:\s*\([^)\n]{0,40}\))?[\"'\s]{0,4}(?:is\b|of\b|would be\b|[:=])"
    rf"[\"'\s(]{{0,4}}{_DIGITS_OR_WORD}{_AFTER}",
    re.I,
)
_GIVEN = re.compile(
    r"(?<!not )(?<!n't )(?<!never )\b(?:give|assign|rate|score|grade)\s+(?:(?:it|this|that|the\s+\w+)\s+)?"
    rf"(?:as\s+|with\s+)?(?:an?\s+)?{_DIGITS}{_AFTER}",
    re.I,
)
_LEADING = re.compile(rf"[\s\"'(\[]*{_DIGITS}{_AFTER}[\"')\]]*\s*?(?:[:\n]|[-\u2013\u2014]\s)", re.I)
_OTHER_SCORE = re.compile(r"(?<!\w)[0-3](?!\w)")
_SCORE_KEY = re.compile(r'(?<!\\)"score"\s*:\s*"?\s*([0-9]+(?:\.[0-9]+)?)(?=\s*(?:["},]|\Z))', re.I)
_MAX_LENGTH = 20_000


def parse_score(text: str) -> int | None:
    """Return the score that a reply gives, or None if it gives none, several, or one out of range.

    JSON counts before prose, wherever it stands in the reply. A reasoning block is left aside. A
    scale that is merely repeated ("0 - no trait, 1 - ...", "from 0 to 3") is never an answer.

    Never raises.
    """
    body = body_of(text)
    objects = objects_in(body)
    if objects is None:
        # Of broken JSON, only the key itself counts: prose may stand inside one of its strings.
        return only_one([_value(score) for score in _SCORE_KEY.findall(body)])
    scores = [_value(entry[key]) for entry in objects for key in entry if key.lower() == "score"]
    if scores:
        return only_one(scores)
    return _prose(re.sub(r"[*_`#]+", "", body))


def reason_of(text: str) -> str:
    """Return the reason that a JSON reply gives, shortened to one line; "" if there is none."""
    for entry in objects_in(body_of(text)) or []:
        reason = entry.get("reason")
        if isinstance(reason, str):
            return " ".join(reason.split())[:200]
    return ""


def body_of(text: str) -> str:
    """Return a reply without its reasoning and its code fences."""
    text = _THINKING.sub(" ", text[-_MAX_LENGTH:])
    text = _CLOSING.split(text)[-1]
    if _OPENING.search(text):
        return ""
    return _FENCE.sub(" ", text).strip()


def objects_in(text: str) -> list[dict[str, object]] | None:
    """Return the JSON objects in a text, or None if one of them is broken."""
    entries: list[dict[str, object]] = []
    decoder = json.JSONDecoder()
    start = _OBJECT.search(text)
    while start:
        try:
            entry, end = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            return None
        entries.append(cast("dict[str, object]", entry))
        start = _OBJECT.search(text, end)
    return entries


def _value(score: object) -> int | None:
    """Return the value of a JSON entry if it is one of the four scores."""
    if isinstance(score, str):
        return _prose(score)
    if isinstance(score, int | float) and not isinstance(score, bool) and score in (0, 1, 2, 3):
        return int(score)
    return None


def _scored(match: re.Match[str]) -> int | None:
    value = match["value"].lower()
    if match["top"] not in (None, "3"):
        return None
    return _WORDS[value] if value in _WORDS else int(value) if value in ("0", "1", "2", "3") else None


def only_one(answers: Sequence[Answer | None]) -> Answer | None:
    """Return what all of some answers are, or None if there is none or they differ."""
    return answers[0] if answers and len(set(answers)) == 1 else None


def _prose(text: str) -> int | None:
    if alone := _ALONE.match(text):
        return _scored(alone)
    for pattern in (_LABELLED, _GIVEN):
        if matches := list(pattern.finditer(text)):
            return only_one([_scored(match) for match in matches])
    leading = _LEADING.match(text)
    if leading and not _OTHER_SCORE.search(text, leading.end()):
        return _scored(leading)
    return None
