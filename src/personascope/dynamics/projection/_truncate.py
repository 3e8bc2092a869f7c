"""Keeping a conversation within what a model reads, and saying what its prompt leaves out."""

from __future__ import annotations

from personascope.chat import Conversation
from personascope.engines import Engine
from personascope.interventions import Plan


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


def reasoning_left_out(engine: Engine, conversation: Conversation) -> str:
    """Say how many replies' reasoning the engine's chat template does not write; "" for none."""
    reasoned = sum(bool(message.reasoning.strip()) for message in conversation)
    chat = getattr(engine, "chat", None)
    if not reasoned or chat is None:
        return ""
    rendered = chat.render_with_spans(conversation, add_generation_prompt=False)
    written = sum(span.end > span.start for span in rendered.thinking)
    left = reasoned - written
    return f"the reasoning of {left} of {reasoned} replies is not in the model's prompt" if left else ""


def last_turn(plan: Plan | None) -> int:
    """Return the last turn that a plan names, -1 where it names none."""
    wheres = [] if plan is None else [op.tokens for op in plan.ops]
    return max((int(w.removeprefix("turn:")) for w in wheres if w.startswith("turn:")), default=-1)
