"""Reading of one reply of vLLM: from its tokens, and the projections that its workers send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from personascope.chat import ReplyFormat
from personascope.live._reading import Reading, ReplyReading, Row
from personascope.live._text import ReplyText, TokenText


class ServedReply:
    """Positions of one reply, as its tokens and their projections come; a projection comes a step later."""

    def __init__(
        self,
        reading: Reading,
        tokenizer: PreTrainedTokenizerBase,
        reply: ReplyFormat | None,
        stops: Sequence[str],
        *,
        width: int,
        moved: bool,
    ) -> None:
        """Begin before the first token.

        Args:
            reading: What is read.
            tokenizer: Tokenizer of the model.
            reply: Format of the reply's parts; None if it is all answer.
            stops: Stop texts of the request.
            width: Number of the request's probes, of which those of the reading are the first. A longer row
                has the same projections before the plan's operations behind them.
            moved: Whether a plan may move the tokens, so that a row does not say where they were before.
        """
        self._read = ReplyReading(reading)
        self._text = ReplyText(tokenizer, reply, stops)
        self._stops, self._width, self._moved = tuple(stops), width, moved
        self._ids: list[int] = []
        self._held: list[TokenText] = []
        self._ended = False

    def feed(self, tokens: Sequence[int]) -> None:
        """Take new tokens of the response."""
        self._ids += tokens
        self._held += self._text.feed(tokens)

    def project(self, rows: Sequence[Row]) -> None:
        """Take the projections of further tokens, [tokens, probes]."""
        for row in rows:
            self._read.after.append(row)
            if len(row) > self._width:
                self._read.before.append(row[self._width :])
            elif not self._moved:
                self._read.before.append(row)

    def told(self) -> list[dict[str, Any]]:
        """Return the tokens that can be told and were not yet, as JSON values."""
        known = len(self._read.after)
        ready = 0
        while ready < len(self._held) and (self._ended or self._held[ready].index < known):
            ready += 1
        new, self._held = self._held[:ready], self._held[ready:]
        return [self._read.token(one) for one in new]

    def end(self, reason: str | None, stop: Any) -> None:
        """Take note of the end of the reply.

        Args:
            reason: Finish reason.
            stop: Stop text or token at which it ended; None for the end of the turn, or at the limit.
        """
        at_text = isinstance(stop, str)
        # A reply that ended by itself has the token that ended it last.
        by_token = reason is not None and reason != "length" and not at_text
        rest = self._text.close(max(0, len(self._ids) - by_token), (*self._stops, stop) if at_text else ())
        length, self._ended = self._text.length, True
        self._held = [one for one in self._held if one.index < length] + rest
        del self._read.after[length:], self._read.before[length:]

    def totals(self, mean: np.ndarray | None) -> dict[str, Any]:
        """Return the positions of the whole reply (`ReplyReading.totals`)."""
        return self._read.totals(self._text.parts(), mean)
