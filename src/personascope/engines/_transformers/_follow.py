"""A conversation that grows: each new message passes through the model once, and no earlier one again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.cache_utils import DynamicCache

from personascope.chat import Conversation, Message
from personascope.engines._checks import check_request
from personascope.engines._contract import Capture, Probe, Request, TurnActivations
from personascope.engines._transformers._observe import Part, SpanReader, read_parts
from personascope.interventions import Extent

if TYPE_CHECKING:
    from personascope.engines._transformers._engine import TransformersEngine


class Follower:
    """Pools the messages of one conversation as they come, and keeps its keys and values between them.

    What is read equals ``observe`` of the whole conversation up to the rounding of the dtype. Where the
    template writes an earlier part in another way than before (one that drops old reasoning, say), the
    conversation is read anew, which costs time and nothing else; ``tokens_fed`` tells.

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
        self._cache = DynamicCache()
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
        """Read a conversation that goes on from what was read; return what is new, in order.

        One that does not go on from it is read from its beginning, and all of it is returned.

        Raises:
            EngineError: If the conversation is empty, or a layer or probe does not fit the model.
            ChatError: If it cannot be rendered.
        """
        engine = self._engine
        request = Request("follow", conversation, capture=self._capture, probes=self._probes)
        check_request(request, engine.loaded)
        rendered = engine._chat().render_with_spans(conversation, add_generation_prompt=False)
        known = len(self._conversation)
        fed = len(self._ids)
        # A span that ends inside what was fed was read; the template may still write what follows it anew.
        goes_on = (
            conversation[:known] == self._conversation
            and rendered.token_ids[:fed] == self._ids
            and all(span.start >= fed for span in rendered.spans[known:] if span.end > span.start)
        )
        if not goes_on:
            known = fed = 0
            self._forget()
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
                    Extent(0),
                    self._cache,
                )
        except BaseException:
            # A cache that took in a part of the tokens must not be gone on from.
            self._forget()
            raise
        self.tokens_fed += len(part.ids)
        self._ids, self._conversation = rendered.token_ids, conversation
        new = reader.turns(spans)
        self._turns += new
        return new

    def _forget(self) -> None:
        self._cache, self._ids, self._conversation, self._turns = DynamicCache(), (), (), []
