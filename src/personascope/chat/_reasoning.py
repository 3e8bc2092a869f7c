"""Separate reasoning from the answer in the text of a reply, by the marks that models and exports write.

Marks are recognised by their shape: a pair of tags whose name is a word for thinking, the ``details`` block
that chat applications fold reasoning into, or raw channels. Marks learnt from a model's own template take
precedence (`personascope.chat._parts`); this module is for texts without a known template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = r"(?:\w+:)?(?:(?:ant)?think(?:ing)?|thoughts?|reason(?:ing)?|scratchpad(?:_reasoning)?)"
# <think>, <seed:think>, <|START_THINKING|>, <|begin_of_thought|>, [THINK], ◁think▷
OPENING_TAG = re.compile(
    rf"<{_WORD}>|<\|(?:start|begin)_(?:of_)?{_WORD}\|>|\[{_WORD}\]|◁{_WORD}▷", re.IGNORECASE
)
CLOSING_TAG = re.compile(rf"</{_WORD}>|<\|end_(?:of_)?{_WORD}\|>|\[/{_WORD}\]|◁/{_WORD}▷", re.IGNORECASE)
ANSWER_TAG = re.compile(r"<(?:response|answer)>|<\|START_RESPONSE\|>")
_DETAILS = re.compile(
    r"<details\b(?:[^>]*\btype=[\"']?reasoning[\"']?[^>]*>(?:\s*<summary>.*?</summary>)?"
    r"|[^>]*>\s*<summary>[^<]*(?:[Tt]hought|[Tt]hinking|[Rr]easoning)[^<]*</summary>)(.*?)</details>\s*",
    re.DOTALL,
)
# Channels of Gemma 4, sentences of Granite 3.2, and gpt-oss's channels after its special tokens were dropped.
_OPENINGS = tuple(
    re.compile(rf"\s*{pattern}\s*", re.DOTALL)
    for pattern in (
        r"<\|channel>\s*(?:thought|thinking|analysis)\b(.*?)(?:<channel\|>|\Z)",
        r"Here is my thought process:(.*?)Here is my response:",
        r"analysis(?=[A-Z\s])(.*?)assistantfinal",
    )
)
_CHANNEL = re.compile(
    r"(?:<\|start\|>\w+)?[^<]*<\|channel\|>\s*(\w+)([^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(.*?)(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)(?:<\|(?:end|return|call)\|>)?",
    re.DOTALL,
)
_ANALYSIS = "analysis"


def closing_of(opening: str) -> str:
    """Return the closing tag of an opening tag, by its shape."""
    for begin, end in (("START_", "END_"), ("start_", "end_"), ("begin_", "end_"), ("BEGIN_", "END_")):
        if opening.startswith(f"<|{begin}"):
            return opening.replace(begin, end, 1)
    return f"{opening[0]}/{opening[1:]}"


def opening_of(closing: str) -> str:
    """Return the opening tag of a closing tag, by its shape."""
    if "/" in closing:
        return closing.replace("/", "", 1)
    return closing.replace("END_", "START_", 1).replace("end_", "begin_", 1)


def split_reasoning(text: str, pairs: Sequence[tuple[str, str]] = ()) -> tuple[str, str]:
    """Return the reasoning in a reply's text ("" if there is none) and the answer without it.

    A closing tag without an opening one ends reasoning that the prompt had opened. An opening tag that is
    never closed begins reasoning without an answer. A pair of tags after the reply's beginning is text.

    Args:
        text: Text of the reply.
        pairs: Opening and closing tags to look for, besides those recognised by their shape.
    """
    if "<|channel|>" in text and "<|message|>" in text:
        return _split_channels(text)
    thoughts: list[str] = []
    details = _DETAILS.match(text.lstrip())
    while details is not None:
        thoughts.append(_unquoted(details[1]))
        text = text.lstrip()[details.end() :]
        details = _DETAILS.match(text)
    for opening in _OPENINGS:
        match = opening.match(text)
        if match is not None:
            thoughts.append(match[1].strip())
            text = text[match.end() :]
    while True:
        reasoning, rest = _leading(text, pairs)
        if rest is None:
            break
        thoughts.append(reasoning)
        text = rest
    if not thoughts:
        return "", text
    wrapper = ANSWER_TAG.match(text)
    if wrapper is not None:
        text = text[wrapper.end() :].rstrip().removesuffix(closing_of(wrapper[0])).strip("\n")
    return "\n\n".join(filter(None, thoughts)), text


def _leading(text: str, pairs: Sequence[tuple[str, str]]) -> tuple[str, str | None]:
    start = text.lstrip()
    opened = next((opening for opening, _ in pairs if start.startswith(opening)), None)
    if opened is None:
        match = OPENING_TAG.match(start)
        opened = None if match is None else match[0]
    if opened is not None:
        closing = dict(pairs).get(opened, closing_of(opened))
        within = start[len(opened) :]
        closed = re.search(re.escape(closing), within, re.IGNORECASE)
        if closed is None:
            return within.strip(), ""
        return within[: closed.start()].strip(), within[closed.end() :].lstrip("\n")
    # The prompt may have opened the reasoning.
    ends = [(text.find(closing), closing) for _, closing in pairs if closing in text]
    match = CLOSING_TAG.search(text)
    if match is not None:
        ends.append((match.start(), match[0]))
    if ends:
        place, closing = min(ends)
        opening = {end: begin for begin, end in pairs}.get(closing, opening_of(closing))
        if opening not in text[:place]:
            return text[:place].strip(), text[place + len(closing) :].lstrip("\n")
    return "", None


def _split_channels(text: str) -> tuple[str, str]:
    thoughts: list[str] = []
    answers: list[str] = []
    for name, rest, body in _CHANNEL.findall(text):
        if name == _ANALYSIS:
            thoughts.append(body.strip())
        elif "to=" not in rest:
            answers.append(body)
    return "\n\n".join(filter(None, thoughts)), "\n\n".join(answers)


def _unquoted(text: str) -> str:
    """Return the text of a ``details`` block without the quote marks that applications put before lines."""
    return "\n".join(re.sub(r"^\s*(?:&gt;|>) ?", "", line) for line in text.strip().splitlines()).strip()
