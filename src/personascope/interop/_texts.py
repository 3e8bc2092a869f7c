"""Read a conversation that is written out as a text, with a label at the beginning of each turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from personascope.corpus.datasets import ROLE_OF, no_text
from personascope.interop._entries import ROLES, Transcript, Unreadable, clean, read_entries

# User: Hello | **User:** Hello | **User**: Hello | a line that is ## User, or ### Assistant:
_LABEL = re.compile(r"\s*(\*\*|__|)([A-Za-z]+)(?:\1:|:\1)(.*)|\s*#{1,6}\s*([A-Za-z]+)\s*:?\s*$")
_CHATML = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)


def read_text(text: str, *, file: str) -> Iterator[Transcript | Unreadable]:
    """Yield the conversation of a text, or the reason why there is none.

    A turn begins with a line ``User:``, ``Assistant:`` or ``System:``, also bold or as a heading of Markdown,
    or is in ChatML. ``Human:`` and ``AI:`` count where no line begins with ``User:`` and ``Assistant:``.
    """
    broken = no_text(text)
    if broken:
        yield Unreadable(clean(file), f"holds {broken}")
        return
    turns = _chatml(text) if text.lstrip().startswith("<|im_start|>") else _labelled(text)
    if isinstance(turns, str):
        yield Unreadable(clean(file), clean(turns))
    else:
        yield from read_entries(turns, file=file)


def _chatml(text: str) -> list[Any]:
    return [{"role": role, "content": content} for role, content in _CHATML.findall(text)]


def _labelled(text: str) -> list[Any] | str:
    lines = text.splitlines()
    names = {name for line in lines if (name := _label(line)[0])}
    known = {
        name: ROLE_OF[name]
        for name in names
        # "AI:" in an answer is a word of it where the answers begin with "Assistant:".
        if name in ROLES or ROLE_OF[name] not in names
    }
    turns: list[tuple[str, list[str]]] = []
    for line in lines:
        name, rest = _label(line)
        if name in known:
            turns.append((known[name], [rest.strip()]))
        elif turns:
            turns[-1][1].append(line)
        elif line.strip():
            return f"begins with {line[:60]!r}, and neither JSON nor 'User:', 'Assistant:' or 'System:'"
    if not turns:
        return "is empty"
    return [{"role": role, "content": "\n".join(said).strip()} for role, said in turns]


def _label(line: str) -> tuple[str, str]:
    """Return the name of the speaker at the beginning of a line, and what follows; "" for none."""
    found = _LABEL.match(line)
    if found is None:
        return "", line
    name = (found[2] or found[4]).lower()
    return (name, found[3] or "") if name in ROLE_OF else ("", line)
