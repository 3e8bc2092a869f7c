"""Keeping a conversation within what a model reads."""

from __future__ import annotations

from personascope.chat import Conversation
from personascope.engines import Engine


def cut_to(engine: Engine, conversation: Conversation, max_tokens: int) -> Conversation:
    """Keep as many whole messages, from the first on, as have room.

    Args:
        engine: Its chat template and tokenizer count.
        conversation: Its messages.
        max_tokens: Tokens of the rendered conversation at most.

    Returns:
        The messages that are kept; none where not even the first question has room.

    Raises:
        ChatError: If the template refuses the conversation.
    """
    if engine.count_tokens(conversation) <= max_tokens:
        return conversation
    asked = next((index for index, message in enumerate(conversation) if message.role == "user"), 0)
    kept, least, most = 0, asked + 1, len(conversation) - 1
    while least <= most:
        middle = (least + most) // 2
        if engine.count_tokens(conversation[:middle]) <= max_tokens:
            kept, least = middle, middle + 1
        else:
            most = middle - 1
    return conversation[:kept]
