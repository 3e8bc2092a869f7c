"""The part of the ``Engine`` contract that needs only the tokenizer and the chat format."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

from transformers import PreTrainedTokenizerBase

from personascope.chat import ChatFormat, ChatOptions, Conversation, Message, TranscriptFormat
from personascope.engines._contract import Request
from personascope.errors import ChatError


class TextFiles(Protocol):
    """A model's tokenizer and name, as in `ModelFiles` and `LoadedModel`."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def model_id(self) -> str: ...


Files = TypeVar("Files", bound=TextFiles)


class Texts(Generic[Files]):
    """Base of the engines, with the methods that need only texts.

    Attributes:
        files: Files of the model, with its tokenizer and name.
        chat: Format of conversations, or None for a model without a chat template.
    """

    files: Files
    chat: ChatFormat | TranscriptFormat | None

    def count_tokens(self, conversation: Conversation) -> int:
        """Return the number of tokens of the rendered prompt."""
        return len(self._chat().render(conversation))

    def encode(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """Tokenise a text; with ``special``, include the special tokens that the tokenizer adds."""
        return tuple(self.files.tokenizer.encode(text, add_special_tokens=special))

    def decode(self, tokens: tuple[int, ...]) -> str:
        """Return the text of tokens, without special tokens."""
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
        """Return the chat format with other options; for a transcript, raise if any is set."""
        chat = self._chat()
        if isinstance(chat, ChatFormat):
            return chat.with_options(options)
        refuse_options_of_transcript(self.files.model_id, options)
        return chat

    def _chat_info(self) -> dict[str, Any]:
        """Return the fields of `EngineInfo` on the chat template, besides its digest."""
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
        """Return the stop texts of a request and, for a conversation, those of the chat format."""
        if self.chat is None or not isinstance(request.prompt[0], Message):
            return request.sampling.stop
        return (*request.sampling.stop, *self.chat.stop_strings)


def refuse_options_of_transcript(model: str, options: ChatOptions) -> None:
    """Check that nothing is asked of the chat template of a model that is read as a transcript.

    Raises:
        ChatError: If an option is set.
    """
    if options.record:
        raise ChatError(
            f"{model} is read as a plain transcript, which has no options",
            hint="leave --thinking and --template-arg out",
        )
