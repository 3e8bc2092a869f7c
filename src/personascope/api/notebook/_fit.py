"""Fit an engine to a map: the chat-template options and date that the map was made with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personascope.api._chat_options import options_of_map
from personascope.chat import ChatFormat

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.space import PersonaMap


def fitted(engine: LocalEngine, persona_map: PersonaMap) -> LocalEngine:
    """Return an engine whose chat template is rendered as the map's was.

    An engine with options of its own is left as it is: whether it is the map's is checked where it is used.
    """
    options = options_of_map(persona_map.model)
    if options is None or engine.info.chat_options or not isinstance(engine.chat, ChatFormat):
        return engine
    return engine.with_chat(options)
