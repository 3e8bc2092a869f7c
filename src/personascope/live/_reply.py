"""A reply as its tokens come: text, positions and projections, then the totals.

It is fed in the worker's thread. What it returns are JSON values, in the form of OpenAI's API with the field
``personascope`` beside.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
from transformers import PreTrainedTokenizerBase

from personascope.engines import Completion, LiveRequest, LiveTokens, firing
from personascope.live._ask import Asked
from personascope.live._reading import ReplyReading
from personascope.live._text import ReplyText, TokenText

FIELD = "personascope"


@dataclass(slots=True)
class Piece:
    """A part of a reply that can be sent.

    Attributes:
        content: New text of the answer.
        reasoning: New text of the reasoning.
        told: New part of the field; empty if nothing was asked for.
    """

    content: str = ""
    reasoning: str = ""
    told: dict[str, Any] = field(default_factory=dict)


class Reply:
    """The reply to one request.

    Attributes:
        asked: Request that it answers.
        id: Id of the reply.
        created: Time of the request, in seconds since 1970.
    """

    def __init__(self, asked: Asked, live: LiveRequest, tokenizer: PreTrainedTokenizerBase) -> None:
        """Begin before the first token."""
        self.asked = asked
        self.id = f"{'chatcmpl' if asked.chat else 'cmpl'}-{uuid4().hex}"
        self.created = int(time.time())
        self._live = live
        self._text = ReplyText(tokenizer, live.reply, asked.request.sampling.stop)
        self._read = ReplyReading(asked.reading)
        self._sent = 0
        # The client's probes stand behind those of the map.
        self._client = len(asked.reading.probes)

    def tokens(self, event: LiveTokens) -> Piece:
        """Take new tokens, and return what can be sent of the reply."""
        self._read.after += event.projections
        self._read.before += event.before
        return self._piece(self._text.feed(event.tokens))

    def end(self, completion: Completion) -> tuple[Piece, dict[str, Any]]:
        """Return the rest of a reply that has ended, and the totals of its field."""
        asked, count = self.asked, len(completion.token_ids)
        # The newest tokens may have come with the end alone, and those of a stop text are no part of it.
        names = [probe.name for probe in asked.request.probes]
        whole = [completion.projections[name].tolist() for name in names]
        read = self._read
        known = min(len(read.after), count)
        late = list(zip(*(column[known:count] for column in whole), strict=True)) if names else []
        read.after = read.after[:known] + late
        texts = {
            "answer": completion.text,
            "thinking": completion.reasoning,
            "tool_calls": completion.tool_calls,
        }
        piece = self._piece(self._text.finish(completion.token_ids, texts))
        return piece, self._totals(completion, piece)

    def usage(self, completion: Completion) -> dict[str, int]:
        """Return the numbers of tokens."""
        used = len(completion.token_ids)
        return {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": used,
            "total_tokens": completion.prompt_tokens + used,
        }

    def _piece(self, new: Sequence[TokenText]) -> Piece:
        asked, after = self.asked, self._read.after
        piece = Piece(
            "".join(one.text for one in new if one.part in ("answer", "tool_calls")),
            "".join(one.text for one in new if one.part == "thinking"),
        )
        if not new or not (asked.reading.tokens or asked.probes is not None):
            return piece
        first, last = self._sent, min(new[-1].index + 1, len(after) or new[-1].index + 1)
        self._sent = max(first, last)
        piece.told = {"first": first}
        if asked.probes is not None:
            piece.told["projections"] = {
                name: [row[self._client + number] for row in after[first:last]]
                for number, name in enumerate(asked.probes.names)
            }
        if asked.reading.tokens:
            piece.told["tokens"] = [self._read.token(one) for one in new]
        return piece

    def _totals(self, completion: Completion, last: Piece) -> dict[str, Any]:
        asked, plan = self.asked, self.asked.plan
        probes = asked.probes
        found: dict[str, Any] = {
            "plan": None if plan is None else plan.digest,
            "plan_name": None if plan is None else plan.name,
            "probes": None if probes is None else probes.digest,
            "seed": asked.request.seed,
        }
        if probes is not None:
            found |= {"first": last.told.get("first", self._sent)}
            found |= {"projections": last.told.get("projections", {name: [] for name in probes.names})}
            found["projected_tokens"] = len(self._read.after)
        if completion.cap_stats is not None:
            found["firing"] = firing(completion.cap_stats)
        if asked.gate is not None:
            opened = completion.gate
            found["gate"] = {
                "plan": asked.gate.digest,
                "token": None if opened is None else opened.token,
                "firing": None if opened is None else firing(opened.cap_stats),
            }
        if asked.pool:
            found["pooled"] = _array(completion)
        return found | self._read.totals(_parts(completion), self._mean(completion))

    def _mean(self, completion: Completion) -> np.ndarray | None:
        layer = self.asked.reading.mean_layer
        if layer is None or completion.pooled is None:
            return None
        return completion.pooled[layer if self.asked.pool else 0]


def _parts(completion: Completion) -> dict[str, list[int]]:
    """Return the tokens of each part of a completion."""
    if not completion.spans:
        return {"answer": list(range(len(completion.token_ids)))}
    found: dict[str, list[int]] = {}
    for span in completion.spans:
        found.setdefault(span.part, []).extend(range(span.start, span.end))
    return found


def _array(completion: Completion) -> dict[str, Any] | None:
    mean = completion.pooled
    if mean is None:
        return None
    return {
        "data": base64.b64encode(np.ascontiguousarray(mean, "<f4").tobytes()).decode(),
        "dtype": "float32",
        "shape": list(mean.shape),
        "layers": list(range(mean.shape[0])),
        "tokens": completion.token_count,
    }
