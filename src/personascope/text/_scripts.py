"""Words, scripts and languages of a text, for `_coherence`, without dependencies."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_")
_SENTENCE = re.compile(r"[.!?\u3002\uff01\uff1f\n]+")

LONGEST_WORD = 24
"""Longest run of letters that counts as a word; longer ones are split into pieces of four."""

# Scripts that one language mixes count as one.
_FAMILY = {"CJK": "HAN", "HIRAGANA": "HAN", "KATAKANA": "HAN", "IDEOGRAPHIC": "HAN", "BOPOMOFO": "HAN"}
_PUNCTUATION = frozenset(string.punctuation) | frozenset(
    "\u20ac\u00a3\u00b0\u2022\u00b7\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00ab\u00bb\u3001\u3002\uff0c\uff01\uff1f\uff1a\u300c\u300d\u00bf\u00a1"
)

_STOP_WORDS = {
    "en": "the and of to is that it for with you this was are have be not they from which would there",
    "de": "der und ist nicht das ein eine ich sie mit auf dem den zu von sich auch wie wird sind",
    "fr": "le les des est une dans que qui pour pas vous nous avec sur sont ce au il elle mais",
    "es": "el los las es una que por con para no del se como pero su m\u00e1s est\u00e1 muy lo yo",
    "it": "il gli \u00e8 una che non per con del sono di della questo come anche pi\u00f9 mi si ho",
    "pt": "o os um uma que n\u00e3o para com do da em \u00e9 mais como mas foi seu voc\u00ea isso eu",
    "nl": "de het een en van is niet dat zijn op te met voor er aan ook maar wordt ik je",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _STOP_WORDS.items()}
_LEAST = 3  # minimum number of different stop words that determine a sentence's language


def pieces(text: str) -> tuple[list[str], list[str]]:
    """Return a text's words, and its words and marks together, in lower case.

    In scripts without spaces every character counts as a word.
    """
    lowered = text.lower()
    words = [part for match in _WORD.findall(lowered) for part in _parts(match)]
    tokens = [part for match in _TOKEN.findall(lowered) for part in _parts(match)]
    return words, tokens


def _parts(word: str) -> Sequence[str]:
    if word.isascii() or script(word[0]) != "HAN":
        return (
            [word]
            if len(word) <= LONGEST_WORD
            else [word[start : start + 4] for start in range(0, len(word), 4)]
        )
    return list(word)


@lru_cache(maxsize=4096)
def script(char: str) -> str:
    """Return the script of a letter from its Unicode name (Chinese and Japanese are one); "" for others."""
    if not char.isalpha():
        return ""
    first = unicodedata.name(char, "UNNAMED").split()[0].split("-")[0]
    return _FAMILY.get(first, first)


def letter_scripts(text: str) -> list[list[str]]:
    """Return the script of every letter, by word; words without letters are left out."""
    found = ([script(char) for char in word if char.isalpha()] for word in _WORD.findall(text))
    return [word for word in found if word]


def main_script(text: str) -> str | None:
    """Return the most common script of the letters; None without letters."""
    letters = [name for word in letter_scripts(text) for name in word]
    return max(sorted(set(letters)), key=letters.count) if letters else None


def language_switches(text: str) -> int:
    """Count changes of language between consecutive sentences with a clear language.

    A language is clear if the sentence has at least three different stop words of it, and twice as many as of
    the next language.
    """
    shown: list[str] = []
    for sentence in _SENTENCE.split(text.lower()):
        words = set(_WORD.findall(sentence))
        counts = sorted(((len(words & stops), name) for name, stops in _LANGUAGES.items()), reverse=True)
        if counts[0][0] >= max(_LEAST, 2 * counts[1][0]):
            shown.append(counts[0][1])
    return sum(a != b for a, b in pairwise(shown))


def is_symbol(char: str) -> bool:
    """Return whether a visible character is neither letter, digit, combining mark nor common punctuation."""
    return char not in _PUNCTUATION and unicodedata.category(char)[0] not in "LNM"
