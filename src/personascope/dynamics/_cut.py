"""Keeping a conversation within what a model reads."""

from __future__ import annotations

from personascope.chat import Conversation
from personascope.engines import Engine


def cut_to(engine: Engine, conversation: Conversation, max_tokens: int) -> tuple[Conversation, int]:
    """Keep as many whole messages, from the first on, as have room.

    Args:
        engine: Its chat template and tokenizer count.
        conversation: Its messages.
        max_tokens: Tokens of the rendered conversation at most.

    Returns:
        The messages that are kept, none where not even the first question has room, and the number of
        their tokens.

    Raises:
        ChatError: If the template refuses the conversation.
    """
    total = engine.count_tokens(conversation)
    if total <= max_tokens:
        return conversation, total
    asked = next((index for index, message in enumerate(conversation) if message.role == "user"), 0)
    least, most, held = asked + 1, len(conversation) - 1, 0
    while least <= most:
        middle = (least + most) // 2
        count = engine.count_tokens(conversation[:middle])
        if count <= max_tokens:
            least, held = middle + 1, count
        else:
            most = middle - 1
    return conversation[: least - 1] if held else (), held
