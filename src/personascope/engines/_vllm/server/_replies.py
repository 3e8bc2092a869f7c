"""How the replies to a server's chats are told into parts: by the marks of its model's chat template.

vLLM renders the conversations. Where the generation prompt leaves a reply is found by rendering a short chat
with the same options; the scheduler checks that vLLM's own prompt ends as that one does.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from personascope.chat import ChatFormat, ChatOptions, Message
from personascope.engines._vllm.request._reply_spec import ReplySpec
from personascope.errors import EngineError, PersonascopeError

_ASK = (Message("user", "Hello there"),)
_KEPT = 64


class ReplyFormats:
    """Formats of the replies to chats, by the values of the template's variables.

    Attributes:
        tokenizer: Function that returns the model's tokenizer.
    """

    def __init__(self, tokenizer: Callable[[], Any], args: Any) -> None:
        """Set where the tokenizer comes from, and the server's arguments."""
        self.tokenizer = tokenizer
        self._default: Mapping[str, Any] = getattr(args, "default_chat_template_kwargs", None) or {}
        self._own_template = getattr(args, "chat_template", None) is not None
        self._known: dict[tuple[tuple[str, Any], ...], ReplySpec | None] = {}

    def of(self, request: Any) -> ReplySpec | None:
        """Return how the reply to a request is told into parts; None if it has none.

        Args:
            request: vLLM's chat or text request. The reply to a text has no parts.

        Raises:
            EngineError: If the request is rendered in a way in which that is not known.
        """
        if not hasattr(request, "messages"):
            return None
        odd = {
            "a chat template of its own": self._own_template or bool(getattr(request, "chat_template", None)),
            "continue_final_message": getattr(request, "continue_final_message", False),
            "add_generation_prompt=false": not getattr(request, "add_generation_prompt", True),
        }
        for what, used in odd.items():
            if used:
                raise _unknown(what)
        values = {**self._default, **(getattr(request, "chat_template_kwargs", None) or {})}
        key = tuple(sorted(values.items()))
        if not all(isinstance(value, bool | int | float | str) for _, value in key):
            raise _unknown("template variables that are no plain values")
        if key not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = self._found(key)
        return self._known[key]

    def _found(self, arguments: tuple[tuple[str, Any], ...]) -> ReplySpec | None:
        try:
            chat = ChatFormat(self.tokenizer(), options=ChatOptions(arguments=arguments))
            rendered = chat.render_with_spans(_ASK, add_generation_prompt=True)
        except PersonascopeError as error:
            raise EngineError(f"the parts of replies are not known here: {error.message}") from error
        if rendered.reply is None:
            return None
        return ReplySpec.of(rendered.reply, tail=rendered.token_ids[rendered.spans[-1].end :])


def _unknown(what: str) -> EngineError:
    return EngineError(
        f"the request uses {what}, under which the parts of its reply are not known",
        hint="leave it out, or act on and read the whole response",
    )
