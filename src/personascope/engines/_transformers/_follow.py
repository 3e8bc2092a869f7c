"""Read a growing conversation so that each message passes through the model only once."""

# pyright: reportPrivateUsage=false
# A follower uses private attributes of its engine.
from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from personascope.chat import Conversation, Message
from personascope.engines._contract import Capture, Probe, Request, TurnActivations
from personascope.engines._transformers._finite import check_turns
from personascope.engines._transformers._observe import Part, SpanReader, read_parts
from personascope.interventions import TokenSpans

if TYPE_CHECKING:
    from personascope.engines._transformers._engine import TransformersEngine


class Follower:
    """Reader that pools the messages of one growing conversation and keeps keys and values between reads.

    A model that keeps more than keys and values gets the whole conversation at every read, but only the
    new messages are pooled. The results equal ``observe`` of the whole conversation up to the rounding of
    the dtype. If a template changes earlier text once a message follows (it may drop the reasoning of
    earlier replies), the changed part is read again.

    Attributes:
        tokens_fed: Number of tokens that passed through the model so far.
    """

    def __init__(
        self, engine: TransformersEngine, capture: Capture | None, probes: tuple[Probe, ...]
    ) -> None:
        """Begin with an empty conversation."""
        self._engine = engine
        self._capture = capture
        self._probes = probes
        self._memory = engine._memory
        self._cache = self._memory.reading_cache(1)
        self._ids: tuple[int, ...] = ()
        self._conversation: Conversation = ()
        self._turns: list[TurnActivations] = []
        self.tokens_fed = 0

    @property
    def turns(self) -> tuple[TurnActivations, ...]:
        """Activations of all messages read so far."""
        return tuple(self._turns)

    def extend(self, *messages: Message) -> list[TurnActivations]:
        """Read further messages; see `read`."""
        return self.read((*self._conversation, *messages))

    def read(self, conversation: Conversation) -> list[TurnActivations]:
        """Read a conversation that continues the one read before; return the newly read messages, in order.

        These are the new messages, preceded by those whose rendering has changed. A conversation that does
        not continue the one read before is read and returned as a whole.

        Raises:
            EngineError: If the conversation is empty, or a layer or probe does not fit the model.
            ChatError: If it cannot be rendered.
        """
        engine = self._engine
        request = Request("follow", conversation, capture=self._capture, probes=self._probes)
        rendered = engine._render(request)
        fed = _shared(rendered.token_ids, self._ids)
        known = 0
        if conversation[: len(self._conversation)] == self._conversation:
            ends = (span.end if span.end > span.start else span.start for span in rendered.spans)
            known = sum(1 for end in list(ends)[: len(self._turns)] if end <= fed)
        if not known:
            fed = 0
        elif known < len(rendered.spans):
            # A message that was partly read is read again from its first token, so that it is read at once.
            fed = min(fed, rendered.spans[known].start)
        if not known:
            self._forget()
        if self._cache is None:
            fed = 0
        elif fed < len(self._ids):
            self._cache.crop(fed - len(self._ids))
        spans = rendered.spans[known:]
        reader = SpanReader.of(spans, engine.loaded.n_layers, self._capture, self._probes)
        part = Part(rendered.token_ids[fed:], fed, None)
        try:
            with torch.inference_mode(), engine._taps.attached():
                read_parts(
                    engine.loaded.stack,
                    engine._taps,
                    engine.loaded.device,
                    [part],
                    reader,
                    TokenSpans(0),
                    self._memory,
                    self._cache,
                )
        except BaseException:
            # A cache that holds only a part of the tokens must not be used again.
            self._forget()
            raise
        self.tokens_fed += len(part.ids)
        self._ids, self._conversation = rendered.token_ids, conversation
        new = reader.turns(spans)
        check_turns(request, new, engine.loaded.dtype)
        self._turns = [*self._turns[:known], *new]
        return new

    def _forget(self) -> None:
        self._cache = self._memory.reading_cache(1)
        self._ids, self._conversation, self._turns = (), (), []


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return the length of the prefix that two sequences share."""
    return next(
        (place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
