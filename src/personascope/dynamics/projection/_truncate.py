"""Cut conversations to a token limit, and report reasoning that the prompt leaves out."""

from __future__ import annotations

from personascope.chat import Conversation
from personascope.engines import Engine
from personascope.interventions import Plan


def cut_to(engine: Engine, conversation: Conversation, max_tokens: int) -> Conversation:
    """Keep as many whole messages as fit, counted from the first.

    Args:
        engine: Engine whose chat template and tokenizer count the tokens.
        conversation: Messages to cut.
        max_tokens: Maximum number of tokens of the rendered conversation.

    Returns:
        The messages that are kept; empty if not even the first user message fits.

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
    """Report how many replies' reasoning the engine's chat template leaves out; "" for none."""
    reasoned = sum(bool(message.reasoning.strip()) for message in conversation)
    chat = getattr(engine, "chat", None)
    if not reasoned or chat is None:
        return ""
    rendered = chat.render_with_spans(conversation, add_generation_prompt=False)
    written = sum(span.end > span.start for span in rendered.thinking)
    left = reasoned - written
    return f"the reasoning of {left} of {reasoned} replies is not in the model's prompt" if left else ""


def last_turn(plan: Plan | None) -> int:
    """Return the highest turn index that a plan names; -1 if it names none."""
    wheres = [] if plan is None else [op.tokens for op in plan.ops]
    return max((int(w.removeprefix("turn:")) for w in wheres if w.startswith("turn:")), default=-1)
