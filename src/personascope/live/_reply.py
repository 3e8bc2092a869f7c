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

from personascope.engines import Completion, LiveRequest, LiveTokens
from personascope.live._ask import Asked
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
        self._after: list[tuple[float, ...]] = []
        self._before: list[tuple[float, ...]] = []
        self._sent = 0
        self._space, self._layers, self._client = asked.columns

    def tokens(self, event: LiveTokens) -> Piece:
        """Take new tokens, and return what can be sent of the reply."""
        self._after += event.projections
        self._before += event.before
        return self._piece(self._text.feed(event.tokens))

    def end(self, completion: Completion) -> tuple[Piece, dict[str, Any]]:
        """Return the rest of a reply that has ended, and the totals of its field."""
        asked, count = self.asked, len(completion.token_ids)
        # The newest tokens may have come with the end alone, and those of a stop text are no part of it.
        names = [probe.name for probe in asked.request.probes]
        whole = [completion.projections[name].tolist() for name in names]
        known = min(len(self._after), count)
        late = list(zip(*(column[known:count] for column in whole), strict=True)) if names else []
        self._after = self._after[:known] + late
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
        asked = self.asked
        piece = Piece(
            "".join(one.text for one in new if one.part in ("answer", "tool_calls")),
            "".join(one.text for one in new if one.part == "thinking"),
        )
        if not new or not (asked.tokens or asked.probes is not None):
            return piece
        first, last = self._sent, min(new[-1].index + 1, len(self._after) or new[-1].index + 1)
        self._sent = max(first, last)
        piece.told = {"first": first}
        if asked.probes is not None:
            piece.told["projections"] = {
                name: [row[self._client + number] for row in self._after[first:last]]
                for number, name in enumerate(asked.probes.names)
            }
        if asked.tokens and asked.positions is not None:
            piece.told["tokens"] = [self._token(one) for one in new]
        return piece

    def _token(self, one: TokenText) -> dict[str, Any]:
        """Return a token as JSON values; without a position where only its first characters are text."""
        assert self.asked.positions is not None
        if one.index >= len(self._after):
            empty = {"position": None, "before": None, "percentile": None}
            return {"text": one.text, "part": one.part or "mark", **empty}
        after = self._after[one.index]
        before = self._before[one.index] if one.index < len(self._before) else None
        record = self.asked.positions.record(after[0], None if before is None else before[0])
        if self.asked.layers:
            record |= self._by_layer(after, before)
        return {"text": one.text, "part": one.part or "mark", **record}

    def _by_layer(self, after: Any, before: Any) -> dict[str, Any]:
        """Return positions at every layer, of a token's projections or of means of them."""
        assert self.asked.positions is not None
        read, chosen = self.asked.positions.layers, self._layers
        return {
            "layers": read.positions(after[chosen]),
            "layers_before": None if before is None else read.positions(before[chosen]),
        }

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
            found["projected_tokens"] = len(self._after)
        if completion.cap_stats is not None:
            told = completion.cap_stats
            found["firing"] = {
                "share": told.firing_share,
                "tokens": told.tokens,
                "capped_tokens": told.capped_tokens,
                "max_moved": told.max_moved,
                "layers": {
                    str(layer): {"fired": count, "moved": told.moved[layer]}
                    for layer, count in told.fired.items()
                },
            }
        if asked.pool:
            found["pooled"] = _array(completion)
        if asked.positions is not None:
            found |= self._positions(completion)
        return found

    def _positions(self, completion: Completion) -> dict[str, Any]:
        """Return the position of the answer, and apart from it that of the thinking."""
        positions = self.asked.positions
        assert positions is not None
        found: dict[str, Any] = {"layer": positions.layer}
        own = [probe.name for probe in self.asked.request.probes[: self._client]]
        after = np.stack([completion.projections[name] for name in own], axis=1).astype(np.float64)
        spans = [(span.part, span.start, span.end) for span in completion.spans]
        for name, part in (("answer", "answer"), ("thinking", "thinking")):
            chosen = [at for whose, start, end in spans if whose == part for at in range(start, end)]
            if not completion.spans and part == "answer":
                chosen = list(range(len(after)))
            if not chosen:
                continue
            before = [self._before[at] for at in chosen if at < len(self._before)]
            earlier = np.mean(before, axis=0) if len(before) == len(chosen) else None
            mean = after[chosen].mean(axis=0)
            told = positions.record(float(mean[0]), None if earlier is None else float(earlier[0]))
            found[name] = told | {"tokens": len(chosen)}
            if self.asked.space and positions.space is not None:
                place = positions.space.place
                found[name]["space"] = place(mean[self._space])
                found[name]["space_before"] = None if earlier is None else place(earlier[self._space])
            if self.asked.layers:
                found[name] |= self._by_layer(mean, earlier)
        if self.asked.space and positions.space is not None and completion.pooled is not None:
            row = positions.layer if self.asked.pool else 0
            found["nearest"] = positions.space.nearest(completion.pooled[row])
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
