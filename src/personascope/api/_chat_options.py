"""Options of a model's chat template, as requested or as the map was made with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Literal

from personascope import chat
from personascope.api._inputs import Tell
from personascope.chat import ChatOptions
from personascope.space import MapModel

if TYPE_CHECKING:
    from personascope.engines import LocalEngine


def read_chat_options(
    thinking: Literal["on", "off"] | None = None, arguments: Sequence[str] = ()
) -> ChatOptions | None:
    """Parse options of a chat template; return None if none are given.

    Args:
        thinking: Whether the model thinks before it answers; None for the template's default.
        arguments: Values of template variables, each of the form NAME=VALUE.

    Raises:
        UsageError: If an argument is of another form.
    """
    if thinking is None and not arguments:
        return None
    values = tuple(chat.parse_argument(text) for text in arguments)
    return ChatOptions(None if thinking is None else thinking == "on", values)


def options_of_map(model: MapModel) -> ChatOptions | None:
    """Return the chat-template options that a map was made with; None for the defaults.

    A template that writes the date gets the date of the map.
    """
    if not model.chat_options and not model.chat_date:
        return None
    thinking = model.chat_options.get("thinking")
    return ChatOptions(
        None if thinking is None else thinking == "on",
        tuple(model.chat_options.get("arguments", {}).items()),
        date.fromisoformat(model.chat_date) if model.chat_date else None,
    )


def tell_thinking(engine: LocalEngine, tell: Tell) -> None:
    """Report if a model always thinks because its chat template has no switch for thinking."""
    if getattr(engine.chat, "thinking", "none") == "always":
        tell(
            f"{engine.info.model_id} thinks before it answers, and its chat template has no switch for that: "
            "thinking and answer are kept apart, and the answer is what is read (docs/thinking.md)"
        )
