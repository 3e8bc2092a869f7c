"""A conversation that grows: each new message passes through the model once, and no earlier one again."""

# pyright: reportPrivateUsage=false
# A follower is a view of its engine.
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
    """Pools the messages of one conversation as they come, and keeps its keys and values between them.

    A model that keeps more than keys and values is given the whole conversation at every read, of which only
    the new messages are pooled. What is read equals ``observe`` of the whole conversation up to the rounding
    of the dtype. Where the template writes the end of what was read in another way once a message follows
    (one that drops the marks of reasoning from earlier replies, say), the part that changed is read again.

    Attributes:
        tokens_fed: Tokens that passed through the model so far.
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
        """All messages read so far."""
        return tuple(self._turns)

    def extend(self, *messages: Message) -> list[TurnActivations]:
        """Read further messages; see `read`."""
        return self.read((*self._conversation, *messages))

    def read(self, conversation: Conversation) -> list[TurnActivations]:
        """Read a conversation that goes on from what was read; return what was read of it now, in order.

        That is the new messages, and before them those that are written in another way than before. One
        that does not go on from what was read is read from its beginning, and all of it is returned.

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
            # A message of which a part was read would be read in two: its first token is where it begins.
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
            # A cache that took in a part of the tokens must not be gone on from.
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
