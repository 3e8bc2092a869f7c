"""What every engine does with texts alone: the tokenizer's and the chat format's part of the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from personascope.chat import ChatFormat, ChatOptions, Conversation, Message, TranscriptFormat
from personascope.engines._contract import Request
from personascope.errors import ChatError


class TextFiles(Protocol):
    """A model's tokenizer and name; `ModelFiles` and `LoadedModel` are such."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def model_id(self) -> str: ...


Files = TypeVar("Files", bound=TextFiles)


class Texts(Generic[Files]):
    """A part of an engine.

    Attributes:
        files: The model's.
        chat: Format of conversations, or None for a model without a chat template.
    """

    files: Files
    chat: ChatFormat | TranscriptFormat | None

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the length of the rendered prompt."""
        return len(self._chat().render(conversation))

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Return the tokens of a text; with ``special``, also those that the tokenizer puts around it."""
        return tuple(self.files.tokenizer.encode(text, add_special_tokens=special))

    def decode(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, special ones left out."""
        return str(self.files.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _chat(self) -> ChatFormat | TranscriptFormat:
        if self.chat is None:
            raise ChatError(
                f"{self.files.model_id} has no chat template, and a conversation needs one",
                hint="use an instruct model, or pass token ids",
            )
        return self.chat

    def with_chat(self, options: ChatOptions) -> Any:
        """Return an engine on the same model whose chat template is rendered with other options."""
        raise NotImplementedError

    def with_today(self, today: date) -> Any:
        """Return an engine on the same model whose chat template writes another date."""
        chat = self._chat()
        options = chat.options if isinstance(chat, ChatFormat) else ChatOptions()
        return self.with_chat(replace(options, today=today))

    def _chat_with(self, options: ChatOptions) -> ChatFormat | TranscriptFormat:
        """Return the chat format with other options; a transcript has none."""
        chat = self._chat()
        if isinstance(chat, ChatFormat):
            return chat.with_options(options)
        if options.record:
            raise ChatError(
                f"{self.files.model_id} is read as a plain transcript, which has no options",
                hint="leave --thinking and --template-arg out",
            )
        return chat

    def _chat_info(self) -> dict[str, Any]:
        """Return what an engine's info says of the chat template beside its digest."""
        if not isinstance(self.chat, ChatFormat):
            return {}
        today = self.chat.today
        return {
            "chat_options": self.chat.options.record,
            "chat_date": "" if today is None else today.isoformat(),
        }

    def _transcript_chat(self) -> TranscriptFormat:
        return ChatFormat.transcript(self.files.tokenizer, model_name=self.files.model_id)

    def _stops(self, request: Request) -> tuple[str, ...]:
        """Return the texts that end a response: the request's, and those of the chat format."""
        if self.chat is None or not isinstance(request.prompt[0], Message):
            return request.sampling.stop
        return (*request.sampling.stop, *self.chat.stop_strings)
