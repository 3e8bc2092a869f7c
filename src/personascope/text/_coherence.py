"""Coherence of a response from counts (loops, mixed scripts, garbage), and the rule for incoherence.

An intervention that "works" by breaking the model must not count as a success (METHOD, section 6), so every
evaluation reports the share of incoherent responses. The rule reads the text alone, so it is cheap and the
same for every model. It detects loops and garbage, which are about three quarters of the responses that
readers call broken. It misses word salad of valid words. Together with the perplexity under the model without
a plan it detects nearly all. ``benchmarks/coherence.md`` has the error rates.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from personascope.text._scripts import is_symbol, language_switches, letter_scripts, main_script, pieces

WINDOW = 20
"""Window, in words, of the count of distinct words, which makes the count independent of text length."""

LONGEST_PERIOD = 12
"""Longest period of a loop that is searched for, in words and marks."""

MIN_WORDS = 8
"""Minimum number of words for repetition to be meaningful ("No, no, no." is too short)."""

MIN_DISTINCT = 0.58
"""Minimum ``distinct_words`` of a coherent response. This and the next two bounds were tuned on the tuning
half of ``benchmarks/coherence_labels.jsonl``, to find most responses that readers call incoherent while
flagging at most 3% of those that they call coherent."""

MIN_COMPRESSION = 0.65
"""Minimum ``compression`` of a coherent response, tuned on the same labels."""

MAX_LOOP = 0.25
"""Maximum ``loop`` of a coherent response, tuned on the same labels."""

MAX_SYMBOLS = 0.3
"""Maximum ``symbol_share``. Not tuned: no response that readers call coherent has any symbol."""

MAX_FOREIGN = 0.3
"""Maximum ``foreign_script_share``. Hardly tuned: two of SmolLM2's broken responses exceed 0.8, and no
coherent one exceeds 0.01."""

MAX_PERPLEXITY_RATIO = 6.0
"""Maximum perplexity, as a multiple of the median without a plan. It was tuned on the tuning half, so that
all bounds together flag at most 5% of the responses that readers call coherent."""

# Compression of ordinary prose: (bytes, share that remains after raw deflate at level 9), means over windows
# of the built-in role prompts. It is needed because short texts do not compress, whatever they say.
_PROSE = (
    (20, 1.093),
    (40, 1.018),
    (80, 0.870),
    (160, 0.727),
    (300, 0.643),
    (600, 0.583),
    (1200, 0.541),
    (4000, 0.494),
)


@dataclass(frozen=True, slots=True)
class Coherence:
    """Counts that describe the form of a response.

    Attributes:
        empty: Whether the response has no letter and no digit.
        words: Number of words (of characters, in scripts without spaces).
        repetition: Share of three-word sequences that occurred earlier in the text.
        loop: Share of words and marks inside loops: a sequence of 1 to 12 of them repeated at least three
            times in direct succession.
        distinct_words: Mean share of distinct words in windows of 20 words, numbers left out (calculations
            repeat them legitimately).
        compression: Compressed size relative to ordinary prose of the same length: about 1 for prose, less
            for repetitive text.
        script_switches: Number of changes of script between consecutive words.
        foreign_script_share: Share of letters outside the main script of the prompt (of the text itself,
            without a prompt).
        language_switches: Number of changes of language between consecutive sentences whose language is clear
            from common words (English, German, French, Spanish, Italian, Portuguese, Dutch).
        symbol_share: Share of visible characters other than letters, digits, and punctuation of prose or
            source code; it includes control, private and unassigned characters.
    """

    empty: bool
    words: int
    repetition: float
    loop: float
    distinct_words: float
    compression: float
    script_switches: int
    foreign_script_share: float
    language_switches: int
    symbol_share: float


def coherence(text: str, *, prompt: str | None = None) -> Coherence:
    """Measure the form of a response.

    Args:
        text: Text of the response.
        prompt: Prompt of the response, whose main script is the expected one.
    """
    words, tokens = pieces(text)
    named = [word for word in words if not word.isdecimal()]
    visible = [char for char in text if not char.isspace()]
    scripts = letter_scripts(text)
    home = main_script(prompt) if prompt else None
    home = home or main_script(text)
    letters = [script for run in scripts for script in run]
    flat = [run[0] for run in scripts if run]
    return Coherence(
        empty=not words,
        words=len(words),
        repetition=_repeated(words, 3),
        loop=_looped(tokens),
        distinct_words=_distinct(named),
        compression=_compression(text),
        script_switches=sum(a != b for a, b in pairwise(flat)),
        foreign_script_share=sum(s != home for s in letters) / len(letters) if letters else 0.0,
        language_switches=language_switches(text),
        symbol_share=sum(map(is_symbol, visible)) / len(visible) if visible else 0.0,
    )


def is_incoherent(
    found: Coherence, *, perplexity: float | None = None, usual_perplexity: float | None = None
) -> bool:
    """Return whether a response is broken: empty, a loop, garbage, or in an unexpected script.

    Args:
        found: Result of `coherence`.
        perplexity: Perplexity of the response under the model without a plan, if known.
        usual_perplexity: Median perplexity of responses without a plan, for comparison. Word salad is
            detected only with both.
    """
    if found.empty or found.symbol_share > MAX_SYMBOLS or found.foreign_script_share > MAX_FOREIGN:
        return True
    if found.words >= MIN_WORDS and (
        found.distinct_words < MIN_DISTINCT or found.compression < MIN_COMPRESSION or found.loop > MAX_LOOP
    ):
        return True
    if perplexity is None or usual_perplexity is None:
        return False
    return perplexity > MAX_PERPLEXITY_RATIO * usual_perplexity


def _repeated(words: Sequence[str], size: int) -> float:
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _distinct(words: Sequence[str]) -> float:
    if not words:
        return 0.0
    starts = range(max(len(words) - WINDOW, 0) + 1)
    shares = [len(set(words[s : s + WINDOW])) / min(WINDOW, len(words)) for s in starts]
    return sum(shares) / len(shares)


def _looped(tokens: Sequence[str]) -> float:
    """Return the share of tokens in sequences repeated at least three times in direct succession."""
    codes = np.unique(np.array(tokens, object).astype(str), return_inverse=True)[1] if tokens else np.empty(0)
    inside = np.zeros(len(codes), bool)
    for period in range(1, min(LONGEST_PERIOD, len(codes) // 3) + 1):
        same = np.concatenate([[False], codes[period:] == codes[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        for start, end in edges.reshape(-1, 2):
            # Positions start to end equal those one period earlier.
            if end - start >= 2 * period:
                inside[start : end + period] = True
    return float(inside.mean()) if len(inside) else 0.0


def _compression(text: str) -> float:
    """Return the compressed size relative to prose of the same length, with one byte per character."""
    if not text:
        return 1.0
    codes: dict[str, int] = {}
    raw = bytes(codes.setdefault(char, len(codes)) % 256 for char in text)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = len(packer.compress(raw) + packer.flush())
    lengths, shares = zip(*_PROSE, strict=True)
    usual = float(np.interp(np.log(len(raw)), np.log(lengths), shares))
    return size / len(raw) / usual
