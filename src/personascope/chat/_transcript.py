"""Conversations as a plain transcript, for models without a chat template."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from personascope.chat._messages import Conversation
from personascope.chat._spans import Rendered, TurnSpan
from personascope.chat._tokens import ContentTokenizer
from personascope.errors import ChatError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LABELS = {"user": "User:", "assistant": "Assistant:"}
_BETWEEN = "\n\n"


class TranscriptFormat:
    """Plain dialogue with the labels "User:" and "Assistant:", which base models know from pre-training.

    A system message is a paragraph without a label; an empty one is left out. The bos token is prepended
    if the tokenizer prepends it to texts. Contents are tokenised as plain text, also the text of special
    tokens. A label inside a content cannot be told from a real one.
    """

    supports_system = True
    has_thinking_switch = False
    template_options: Mapping[str, Any] = MappingProxyType({})
    stop_strings: tuple[str, ...] = ("\nUser:",)

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, model_name: str = "") -> None:
        """Prepare a fast tokenizer.

        Raises:
            ChatError: If the tokenizer is not a fast one.
        """
        self.tokenizer = tokenizer
        self.model_name = model_name or str(getattr(tokenizer, "name_or_path", "") or "the model")
        self._tokens = ContentTokenizer(tokenizer)
        opening = tokenizer("a").input_ids[:1]
        self._opening: list[int] = [i for i in opening if i == tokenizer.bos_token_id]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the labels, the separator and the bos token, if it is prepended."""
        state = {"format": "transcript", "labels": _LABELS, "between": _BETWEEN, "opening": self._opening}
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The tokenizer's end-of-text token, if it has one."""
        eos = cast("int | None", self.tokenizer.eos_token_id)
        return frozenset() if eos is None else frozenset([eos])

    def render(self, conversation: Conversation, *, add_generation_prompt: bool = True) -> list[int]:
        """Return the token ids of a conversation; the generation prompt is "Assistant:".

        Raises:
            ChatError: If the conversation has no message.
        """
        rendered = self.render_with_spans(conversation, add_generation_prompt=add_generation_prompt)
        return list(rendered.token_ids)

    def render_with_spans(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> Rendered:
        """Return the token ids of a conversation and the tokens of each message's content.

        White space around a content is stripped. The token of its first word may include the space that
        separates the content from its label.

        Raises:
            ChatError: If the conversation has no message.
        """
        if all(message.role == "system" and not message.content.strip() for message in conversation):
            raise ChatError("the conversation has no message to render", hint="add a user message")
        text = ""
        marks: list[tuple[int, int]] = []
        for message in conversation:
            content = message.content.strip()
            if message.role in _LABELS:
                text += _LABELS[message.role] + (" " if content else "")
            marks.append((len(text), len(text) + len(content)))
            if content or message.role in _LABELS:
                text += content + _BETWEEN
        text = text + _LABELS["assistant"] if add_generation_prompt else text.removesuffix(_BETWEEN)
        contents = [mark for mark in marks if mark[0] < mark[1]]
        ids, spans = self._tokens.encode(text, contents, marks)
        shift = len(self._opening)
        turns = [
            TurnSpan(index, message.role, start + shift, end + shift)
            for index, (message, (start, end)) in enumerate(zip(conversation, spans, strict=True))
        ]
        return Rendered((*self._opening, *ids), tuple(turns), text)
