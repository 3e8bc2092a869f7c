"""Reading a label out of whatever a judge model wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from personascope.judge._rubric import Rubric
from personascope.judge.parsing._scores import body_of, objects_in, only_one, parse_score

_LABEL_KEY = re.compile(r'(?<!\\)"label"\s*:\s*"([^"\\\n]{1,80})"(?=\s*(?:[,}]|\Z))', re.I)
_SEPARATORS = re.compile(r"[\s_-]+")
_WRAPPING = " \t\r\n\"'()[]<>{}.,!-\u2013\u2014\u2022"
_SENTENCE_END = re.compile(r"[.;!?\n]")
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|cannot|rather than|instead of)\b|n't\b", re.I)
_DOUBT = re.compile(
    r"\b(?:or|could|might|may|maybe|perhaps|possibly|probably|unsure|uncertain|either)\b|\?", re.I
)

# What may stand between a label and the end of the statement that gives it.
_FIRM = (
    r"[\"')\]>]{0,3}(?=\s*\Z|\s*[.;:!\n,(}]|\s+[-\u2013\u2014]+\s"
    r"|\s+(?:because|since|as|given|for|due\s+to)\b)"
)
# After a label: "or human", "/ human", "- or maybe human".
_HEDGE = re.compile(
    r"[\s\"')\]]*[-\u2013\u2014,(/|&~]*\s*(?:(?:or|and|and/or|maybe|perhaps|possibly|but|rather)\b|[/|&~?])",
    re.I,
)
_SAYS = r"(?:\s+(?:is|would\s+be|should\s+be)\b:?|\s*[:=])"
_OPEN = r"[\"'\s(\[<]{0,4}(?:the\s+label\s+)?[\"']?"
_STATED = (
    rf"(?:\b(?:label|verdict|category|classification|choice|final\s+answer)\b[\"')\s]{{0,3}}{_SAYS}"
    r"|^\s*answer\s*[:=])"
)
_GIVEN = (
    r"\b(?:classif(?:y|ied)|label(?:l?ed)?|categori[sz]ed?|mark(?:ed)?|choose|chose|pick|select|assign(?:ed)?)\s+"
    r"(?:(?:it|this|that|the\s+\w+)\s+)?(?:(?:as|with|under)\s+)?"
    r"|\b(?:it|this|that|response|text|answer|completion)\s+(?:is|fits|falls\s+under|belongs\s+(?:to|under))\s+"
    r"(?:best\s+)?(?:the\s+label\s+)?(?=\")"
)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """What finds the labels of one rubric in a text."""

    by_form: dict[str, str]
    statements: tuple[re.Pattern[str], ...]
    leading: re.Pattern[str]
    firm: re.Pattern[str]
    mention: re.Pattern[str]
    apart: re.Pattern[str]


def parse_answer(text: str, rubric: Rubric, *, cut: bool = False) -> int | None:
    """Return the index of the label that a reply gives by a rubric, or None.

    Args:
        text: The reply.
        rubric: What was asked.
        cut: Whether the reply was cut off, so that its last word may be the beginning of another label.
    """
    if rubric.key == "score":
        return parse_score(text)
    label = parse_label(f"{text}_" if cut else text, rubric.labels)
    return None if label is None else rubric.labels.index(label)


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that a reply gives, or None if it gives none, several, or gives it with doubt.

    JSON counts before prose, wherever it stands in the reply. A reasoning block is left aside. In prose a
    label counts if it is all there is, if it is said to be the label ("Label: human", "I would classify
    this as human"), or if the reply begins with it. Many labels are ordinary words ("other", "no"), so
    one that is merely mentioned is no answer; a repeated list of the labels is none either.

    Never raises.
    """
    found = _patterns(tuple(labels))
    body = body_of(text)
    objects = objects_in(body)
    if objects is None:
        # Of broken JSON, only the key itself counts: prose may stand inside one of its strings.
        return only_one([_whole(value, found) for value in _LABEL_KEY.findall(body)])
    values = [entry[key] for entry in objects for key in entry if key.strip().lower() == "label"]
    if values:
        return only_one([_value(value, found) for value in values])
    return _prose(re.sub(r"[*#]+", "", body).replace("`", '"'), found)


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> _Patterns:
    # The longest first: "enough" stands inside "enough_and_follows".
    words = sorted(labels, key=len, reverse=True)
    any_label = "|".join(r"[\s_-]+".join(map(re.escape, word.split("_"))) for word in words)
    label = rf"(?<![\w-])(?P<label>{any_label})(?![\w-])"
    exact = "|".join(re.escape(word) for word in words if "_" in word) or r"(?!)"
    flags = re.I | re.M
    return _Patterns(
        by_form={_form(word): word for word in labels},
        statements=tuple(re.compile(f"(?:{how}){_OPEN}{label}", flags) for how in (_STATED, _GIVEN)),
        leading=re.compile(rf"[\s\"'(\[-]*{label}[\"')\]]*\s*?(?:[:\n]|\s[-\u2013\u2014]+\s)", re.I),
        firm=re.compile(_FIRM, re.I),
        mention=re.compile(label, re.I),
        # Where a label is surely meant as one: in quotes, at the start of a line, or with its underscore.
        apart=re.compile(
            rf"(?:\"|^[ \t\"'(\[\u2022-]{{0,8}}(?:\w[.)][ \t]+)?)(?P<label>{any_label})"
            r"(?:\"|\s*(?:[:.\n]|\Z|[-\u2013\u2014]\s))"
            rf"|(?<![\w-])(?P<exact>{exact})(?![\w-])",
            flags,
        ),
    )


def _form(text: str) -> str:
    return _SEPARATORS.sub("", text.lower())


def _whole(text: str, found: _Patterns) -> str | None:
    """Return the label that a text is, whatever it is wrapped in."""
    return found.by_form.get(_form(text.strip(_WRAPPING)))


def _value(value: object, found: _Patterns) -> str | None:
    if isinstance(value, str):
        return _prose(value, found)
    if isinstance(value, int) and not isinstance(value, bool):
        return found.by_form.get(str(value))
    return None


def _prose(text: str, found: _Patterns) -> str | None:
    if whole := _whole(text, found):
        return whole
    for pattern in found.statements:
        if matches := list(pattern.finditer(text)):
            return only_one([_stated(match, text, found) for match in matches])
    leading = found.leading.match(text)
    if leading:
        label = _label(leading, found)
        rest = text[leading.end("label") :]
        return None if _HEDGE.match(rest) or _names_others(rest, label, found) else label
    return _unmistakable(text, found)


def _label(match: re.Match[str], found: _Patterns, group: str = "label") -> str:
    return found.by_form[_form(match[group])]


def _stated(match: re.Match[str], text: str, found: _Patterns) -> str | None:
    """Return the label of a statement, or None if the statement denies, doubts, or goes on otherwise."""
    label = _label(match, found)
    before = _SENTENCE_END.split(text[: match.start("label")])[-1]
    rest = text[match.end("label") :]
    if _NEGATION.search(before) or not found.firm.match(rest) or _HEDGE.match(rest):
        return None
    sentence = _SENTENCE_END.split(rest)[0]
    if sentence.lstrip("\"') ]")[:1] in (",", "("):
        others = {_label(other, found) for other in found.mention.finditer(sentence)} - {label}
        return None if others else label
    return label


def _names_others(text: str, label: str, found: _Patterns) -> bool:
    """Whether another label is named as a label: a repeated list, or a second thought."""
    for match in found.apart.finditer(text):
        group = "label" if match["label"] else "exact"
        if _label(match, found, group) != label:
            return True
    return False


def _unmistakable(text: str, found: _Patterns) -> str | None:
    """Return the one label with an underscore that a text names without doubt or denial."""
    matches = [match for match in found.apart.finditer(text) if match["exact"]]
    if not matches:
        return None
    label = _label(matches[0], found, "exact")
    if _names_others(text, label, found) or _NEGATION.search(text) or _DOUBT.search(text):
        return None
    return label
