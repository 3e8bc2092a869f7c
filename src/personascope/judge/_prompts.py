"""Write the messages that ask a judge model for a label."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from personascope.chat import Message
from personascope.judge._contract import JudgeItem
from personascope.judge._rubric import Material
from personascope.text import replace_surrogates

_PLACE = re.compile(r"\{(question|answer)\}")


def rubric_messages(
    item: JudgeItem, *, form: str | None = None, letters: bool = False
) -> tuple[Message, Message]:
    """Return the system and the user message that ask for the label of an item.

    The marks around the material hold its digest, so that no text can close its own mark.

    Args:
        item: Item to label, with its rubric. Its ``eval_prompt``, if any, replaces the rubric's task and
            shows the question and response alone.
        form: Closing sentence that says in which form to reply; None for the rubric's own.
        letters: Whether labels are lettered, and a letter is the answer.
    """
    item = _cleaned(item)
    rubric = item.rubric
    form = rubric.form if form is None else form
    digest = hashlib.sha256(f"{item.question}\x00{item.response}".encode()).hexdigest()[:12]

    def mark(name: str, text: str) -> str:
        return f"<<{name} {digest}>>\n{text.strip()}\n<<end of {name} {digest}>>"

    if item.eval_prompt is not None:
        marked = {"question": mark("question", item.question), "answer": mark("response", item.response)}
        # One pass, so that braces in the question or the response are not substituted.
        body = _PLACE.sub(lambda place: marked[place[1]], item.eval_prompt)
        if letters:
            body = f"{body}\n\n{rubric.scale(letters=True)}"
        return Message("system", rubric.grader), Message("user", f"{body}\n\n{form}")
    texts: dict[Material, str] = {
        "role instruction": item.system_prompt,
        "system prompt": item.system_prompt,
        "question": item.question,
        "opening": item.question,
        "response": item.response,
        "completion": item.response,
    }
    named = f"{item.role.replace('_', ' ')}: {item.description}"
    parts = [
        f"The {name} is {named}" if name in ("role", "trait") else mark(name, texts[name])
        for name in rubric.shows
    ]
    return Message("system", rubric.grader), Message(
        "user", "\n\n".join([rubric.scale(letters=letters), *parts, form])
    )


def _cleaned(item: JudgeItem) -> JudgeItem:
    """Return an item without lone surrogates, which come from JSON escapes and cannot be sent."""
    prompt = item.eval_prompt
    return replace(
        item,
        description=replace_surrogates(item.description),
        system_prompt=replace_surrogates(item.system_prompt),
        question=replace_surrogates(item.question),
        response=replace_surrogates(item.response),
        eval_prompt=None if prompt is None else replace_surrogates(prompt),
    )
