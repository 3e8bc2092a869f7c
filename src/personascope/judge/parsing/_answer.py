"""Parse a label from a judge model's reply: a JSON object, a sole label, or a leading label."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast

from personascope.judge._rubric import Rubric
from personascope.judge.parsing._reasoning import without_reasoning
from personascope.text import replace_surrogates

MAX_LENGTH = 20_000
"""Number of characters of a reply that are read, counted from its end."""

_FENCE = re.compile(r"```(?:json)?", re.I)
_OBJECT = re.compile(r'\{\s*"')
_SEPARATORS = re.compile(r"[\s_-]+")
_SIGNED = re.compile(r"\W*[-\u2212]\d")
_WRAPPING = " \t\r\n\"'()[]<>{}.,!-\u2013\u2014\u2022"
_KEY = r"\A[\s\"'(\[-]*(?:(?:final\s+)?(?:score|label|answer)[\"']?\s*[:=][\s\"'(\[]*)?"
# A hedge after a label: "or human", "/ human", "- or maybe human", "(perhaps even human)".
_HEDGE = re.compile(
    r"[\s\"')\]:]*[-\u2013\u2014,(/|&~]*\s*(?:(?:or|and|and/or|maybe|perhaps|possibly|but|rather)\b|[/|&~?])",
    re.I,
)


def parse_answer(text: str, rubric: Rubric, *, cut: bool = False) -> int | None:
    """Return the index of the label that a reply gives by a rubric, or None if it gives none or several.

    Reasoning is ignored. JSON objects take precedence, wherever they stand in the reply. Without one, the
    label is the whole reply ("human", "Label: human"), or what it begins with ("human: it names a wife") if
    no other label follows. Labels are ordinary words ("other", "no"), so a mere mention is no answer, nor is
    a repeated list of the labels.

    Never raises.

    Args:
        text: Reply of the judge.
        rubric: Rubric by which the judge was asked.
        cut: Whether the reply was cut off, so that its last word may be the beginning of another label.
    """
    body = body_of(text)
    objects = objects_in(body)
    forms = {_form(label): index for index, label in enumerate(rubric.labels)}
    if objects is None:
        return _at_the_end(body, rubric.key, forms)
    values = [entry[key] for entry in objects for key in entry if key.strip().lower() == rubric.key]
    if values:
        return _only_one([_value(value, forms) for value in values])
    plain = re.sub(r"[*#]+", "", body).replace("`", '"')
    sole = None if cut else _whole(re.sub(_KEY, "", plain, count=1, flags=re.I), forms)
    return _leading(plain, rubric.labels, forms) if sole is None else sole


def reason_of(text: str, clean: Callable[[str], str] = replace_surrogates) -> str:
    """Return the reason in a JSON reply, cleaned, on one line of 200 characters; "" without one."""
    for entry in objects_in(body_of(text)) or []:
        reason = entry.get("reason")
        if isinstance(reason, str):
            return clean(" ".join(reason.split()))[:200]
    return ""


def body_of(text: str) -> str:
    """Return a reply without its reasoning and code fences."""
    return _FENCE.sub(" ", without_reasoning(text[-MAX_LENGTH:])).strip()


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


def _form(text: str) -> str:
    return _SEPARATORS.sub("", text.lower())


def _whole(text: str, forms: Mapping[str, int]) -> int | None:
    """Return the label that a text consists of, ignoring quotes, brackets and punctuation around it."""
    return None if _SIGNED.match(text) else forms.get(_form(text.strip(_WRAPPING)))


def _value(value: object, forms: Mapping[str, int]) -> int | None:
    """Return the label that a JSON value gives."""
    if isinstance(value, str):
        return _whole(value, forms)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return forms.get(str(int(value))) if value in range(1000) else None
    return None


def _at_the_end(body: str, key: str, forms: Mapping[str, int]) -> int | None:
    """Return the label of a broken JSON object if it is the last entry, and the only one of that key.

    Reasons with unescaped quotes break JSON. Elsewhere in broken JSON a label may stand inside a string.
    """
    found = re.findall(rf'(?<!\\)"{key}"\s*:\s*"?([^"\\\n{{}},]{{1,80}})"?\s*(}}\s*\Z)?', body, re.I)
    return _whole(found[0][0], forms) if len(found) == 1 and found[0][1] else None


def _only_one(answers: Sequence[int | None]) -> int | None:
    """Return the common value of the answers, or None if they differ."""
    return answers[0] if len(set(answers)) == 1 else None


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern for a leading label, and one for labels that are clearly meant as labels."""
    # Longest first, because "enough" is part of "enough_and_follows".
    words = sorted(labels, key=len, reverse=True)
    any_label = "|".join(r"[\s_-]+".join(map(re.escape, word.split("_"))) for word in words)
    exact = "|".join(re.escape(word) for word in words if "_" in word or word.isdigit()) or r"(?!)"
    leading = rf"{_KEY}(?<![\w.,+\u2212-])(?P<label>{any_label})[\"')\]]*\s*?(?:[:\n(]|\s[-\u2013\u2014]+\s)"
    # A label in quotes, at the start of a line, as a digit, or with its underscore.
    apart = (
        rf"(?:\"|^[ \t\"'(\[\u2022-]{{0,8}}(?:\w[.)][ \t]+)?)(?P<label>{any_label})"
        r"(?:\"|\s*(?:[:.\n]|\Z|[-\u2013\u2014]\s))"
        rf"|(?<![\w-])(?P<exact>{exact})(?![\w-])"
    )
    return re.compile(leading, re.I), re.compile(apart, re.I | re.M)


def _leading(text: str, labels: tuple[str, ...], forms: Mapping[str, int]) -> int | None:
    """Return the label that a text begins with, unless a hedge or another label follows it."""
    leading, apart = _patterns(labels)
    found = leading.match(text)
    if found is None:
        return None
    label = forms[_form(found["label"])]
    after = found.end("label")
    if _HEDGE.match(text, after):
        return None
    others = {forms[_form(other["label"] or other["exact"])] for other in apart.finditer(text, after)}
    return label if others <= {label} else None
