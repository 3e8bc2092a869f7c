"""Whether a response still is a text: loops, broken scripts and garbage, by counting; and the rule on it.

An intervention that "works" by breaking the model must not pass as one that works (METHOD, section 6), so
every evaluation tells the share of incoherent responses. The rule reads the text alone: it costs
nothing and is the same for every model. It sees loops and garbage: about three in four of the responses
that a reader calls broken. Strings of good words that do not parse it does not see; with the perplexity
under the model without a plan it finds nearly all. ``benchmarks/coherence.md`` has the error rates.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from personascope.text._scripts import is_symbol, language_switches, letter_scripts, main_script, pieces

WINDOW = 20
"""Words over which distinct ones are counted: the count then does not fall as a text grows longer."""

LONGEST_PERIOD = 12
"""Words and marks of the longest sequence that is looked for as a loop."""

MIN_WORDS = 8
"""Words below which a text is too short for repetition to mean anything ("No, no, no.")."""

MIN_DISTINCT = 0.58
"""Least ``distinct_words`` of a coherent response. Set, with the next two, on the tuning half of
``benchmarks/coherence_labels.jsonl``: they find most of what was read as incoherent while they flag at
most 3% of what was read as coherent."""

MIN_COMPRESSION = 0.65
"""Least ``compression``, set likewise."""

MAX_LOOP = 0.25
"""Greatest ``loop``, set likewise."""

MAX_SYMBOLS = 0.3
"""Greatest ``symbol_share``. Not set on the labels: no response that was read as coherent has any symbol."""

MAX_FOREIGN = 0.3
"""Greatest ``foreign_script_share``. Hardly set on the labels: two of SmolLM2's broken responses have one,
above 0.8, and no coherent one has more than 0.01."""

MAX_PERPLEXITY_RATIO = 6.0
"""Greatest perplexity, in multiples of the median without a plan; set on the tuning half, so that it and
the rest together flag at most 5% of what was read as coherent."""

# Bytes of ordinary prose, and the share of them that remains after zlib (raw deflate, level 9): means over
# windows of the built-in role prompts. Short texts do not compress, whatever they say.
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
    """What can be counted about the form of a response.

    Attributes:
        empty: Whether it has no letter and no digit.
        words: Number of words (of characters, in scripts without spaces).
        repetition: Share of the three-word sequences that stood in the text before.
        loop: Share of the words and marks that lie in stretches in which a sequence of 1 to 12 of them
            comes at least three times without a break.
        distinct_words: Mean share of distinct words in windows of 20 words, numbers left out (a sum
            repeats them with good reason).
        compression: Size after zlib over that of ordinary prose of the same length: about 1 for prose,
            less for what repeats itself.
        script_switches: Changes of script from one word to the next.
        foreign_script_share: Share of the letters that are not of the prompt's main script (of the
            text's own, without a prompt).
        language_switches: Changes of language from one sentence to the next, among those that their
            commonest words give away (English, German, French, Spanish, Italian, Portuguese, Dutch).
        symbol_share: Share of the visible characters that are neither letters, digits nor punctuation of
            prose or source code; control, private and unassigned characters included.
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
    """Count what the form of a response shows.

    Args:
        text: The response.
        prompt: What it answers; its main script is then the one that is expected.
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
    """Tell whether a response is broken: empty, a loop, garbage, or of a script that was not asked for.

    Args:
        found: From `coherence`.
        perplexity: Of the response under the model without a plan, where it is known.
        usual_perplexity: Median of the responses without a plan, to judge the first by. Only with both is
            grammatical nonsense seen.
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
    """Share of tokens within a sequence that comes three times or more at once."""
    codes = np.unique(np.array(tokens, object).astype(str), return_inverse=True)[1] if tokens else np.empty(0)
    inside = np.zeros(len(codes), bool)
    for period in range(1, min(LONGEST_PERIOD, len(codes) // 3) + 1):
        same = np.concatenate([[False], codes[period:] == codes[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        for start, end in edges.reshape(-1, 2):
            # Positions start to end repeat what stands one period before them.
            if end - start >= 2 * period:
                inside[start : end + period] = True
    return float(inside.mean()) if len(inside) else 0.0


def _compression(text: str) -> float:
    """Size after zlib over that of prose of the same length; each letter is one byte in any script."""
    if not text:
        return 1.0
    codes: dict[str, int] = {}
    raw = bytes(codes.setdefault(char, len(codes)) % 256 for char in text)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = len(packer.compress(raw) + packer.flush())
    lengths, shares = zip(*_PROSE, strict=True)
    usual = float(np.interp(np.log(len(raw)), np.log(lengths), shares))
    return size / len(raw) / usual
