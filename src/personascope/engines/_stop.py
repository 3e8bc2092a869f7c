"""Cut a response before a stop text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def before_stop_string(
    tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int], stops: Sequence[str]
) -> tuple[str, list[int]]:
    """Return the text before the first stop text, and the tokens that lie entirely before it."""
    tokens = list(tokens)
    whole = str(tokenizer.decode(tokens, skip_special_tokens=True))
    text = whole[: min((at for stop in stops if (at := whole.find(stop)) >= 0), default=len(whole))]
    for length in range(len(tokens), -1, -1):
        if len(str(tokenizer.decode(tokens[:length], skip_special_tokens=True))) <= len(text):
            return text, tokens[:length]
    return text, []
