"""Detection of nonsense (loops, garble) from the form of a text, not its meaning.

The sentence embedding of "I am the sea I am the sea I am the sea" is close to that of the single sentence, so
the output of a broken model must be detected by its form.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence

from personascope.text._words import STOPWORDS

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
_PUNCTUATION = frozenset(".,;:!?'\"()-*/#\u2018\u2019\u201c\u201d\u2013\u2014\u2026")
_VOWEL = re.compile(r"[aeiouy]", re.I)
_ODD = re.compile(r"[^\W\d_]{22,}|(.)\1\1\1|[a-z][A-Z]+[a-z]+[A-Z]")
LONGEST_PERIOD = 12

LOOPED = 0.5
"""Share of a text in loops from which it is nonsense. Of 6,800 unsteered responses of SmolLM2, 14 reach it,
and all of them are loops."""
GARBLED = 0.3
"""Share of symbols or impossible words from which a text is nonsense."""
_COUNTED = 6  # minimum number of words for the share of impossible ones to be meaningful

MEASURES = (
    "repeated_trigrams",
    "cycle",
    "compression",
    "function_words",
    "odd_words",
    "non_ascii",
    "symbols",
)
"""Names of the measures of `text_shape`."""


def text_shape(text: str) -> dict[str, float]:
    """Measure the form of a text.

    Keys:
        repeated_trigrams: Share of three-word sequences that occurred earlier in the text.
        cycle: Share of words and marks inside loops: a sequence of 1 to 12 of them repeated at least three
            times in direct succession.
        compression: Compressed bytes over original bytes; 1 for a text of fewer than 60 bytes.
        function_words: Share of words that are stop words ("the", "of", "is").
        odd_words: Share of impossible words: no vowel, over 21 letters, a letter four times in a row, or
            mixed capitals.
        non_ascii: Share of letters outside the Latin script.
        symbols: Share of visible characters that are neither letters, digits nor punctuation.
    """
    straight = text.replace("\u2019", "'")
    words = _WORD.findall(straight)
    lowered = [word.lower() for word in words]
    visible = [char for char in text if not char.isspace()]
    raw = text.encode(errors="replace")
    return {
        "repeated_trigrams": _repeated(lowered, 3),
        "cycle": _cycle(_TOKEN.findall(straight.lower())),
        "compression": min(len(zlib.compress(raw, 9)) / len(raw), 1.0) if len(raw) >= 60 else 1.0,
        "function_words": _share(word in STOPWORDS for word in lowered),
        "odd_words": _share(_is_odd(word) for word in words),
        "non_ascii": _share(ord(char) > 0x24F for char in visible if char.isalpha()),
        "symbols": _share(not char.isalnum() and char not in _PUNCTUATION for char in visible),
    }


def _is_odd(word: str) -> bool:
    latin = all(ord(char) <= 0x24F for char in word)
    without_vowel = latin and len(word) > 4 and not _VOWEL.search(word)
    return without_vowel or bool(_ODD.search(word))


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0


def _repeated(words: Sequence[str], size: int) -> float:
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def _cycle(tokens: Sequence[str]) -> float:
    inside = [False] * len(tokens)
    for period in range(1, LONGEST_PERIOD + 1):
        start = 0
        for end in range(period, len(tokens) + 1):
            if end < len(tokens) and tokens[end] == tokens[end - period]:
                continue
            # tokens[start:end] repeats with this period.
            if end - start >= 3 * period:
                inside[start:end] = [True] * (end - start)
            start = end - period + 1
    return _share(inside)


def nonsense(text: str) -> str | None:
    """Return why a text is nonsense, if its form alone shows it; None otherwise.

    The bounds are values that unsteered models hardly ever reach: half of the text in loops, or 30% symbols
    or impossible words. Text in another language or script is not nonsense, and word salad of valid words is
    left to the classifier.
    """
    if not text.strip():
        return "the response is empty"
    shape = text_shape(text)
    if not any(char.isalnum() for char in text):
        return "no letter and no digit"
    if max(shape["cycle"], shape["repeated_trigrams"]) >= LOOPED:
        return f"loops: {max(shape['cycle'], shape['repeated_trigrams']):.0%} of the text is repeated"
    if shape["symbols"] >= GARBLED:
        return f"garble: {shape['symbols']:.0%} of the characters are symbols"
    if shape["odd_words"] >= GARBLED and len(_WORD.findall(text)) >= _COUNTED:
        return f"garble: {shape['odd_words']:.0%} of the words are impossible"
    return None
