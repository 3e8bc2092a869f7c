"""Reasoning that a server leaves in a reply, before the answer."""

from __future__ import annotations

import re

from personascope.chat import CLOSING_TAG, OPENING_TAG

# The tags that models think in, and what judges were seen to use beside them. The two ends need not be of one
# kind: what matters is that the answer stands behind the second.
_OPENING = re.compile(
    rf"{OPENING_TAG.pattern}|<scratchpad>|\[scratchpad\]|\u25c1think\u25b7"
    r"|<details\b[^>]*\btype=[\"']?reasoning[^>]*>|<\|channel\|>\s*(?:analysis|commentary)\b",
    re.I,
)
_CLOSING = re.compile(
    rf"{CLOSING_TAG.pattern}|</scratchpad>|\[/scratchpad\]|\u25c1/think\u25b7|</details>"
    r"|<\|channel\|>\s*final\s*<\|message\|>",
    re.I,
)
_MARK = re.compile(r"<\|(?:start|end|return|message|channel|im_end|eot_id)\|>", re.I)


def without_reasoning(text: str) -> str:
    """Return what a reply says after its reasoning: "" where the reasoning does not end.

    Known are ``<think>``, ``[THINK]`` and their like, ``<details type="reasoning">``, and the channels of
    gpt-oss. A chat template may have opened the block already, so that its end stands in the reply alone.

    `personascope.chat.split_reasoning` must keep every word of an answer. This takes a block in mid-text for
    reasoning too: a label that stands in one is no label.
    """
    opened = _OPENING.search(text)
    block = opened is not None and opened[0].lower().startswith("<details")
    # </details> stands in ordinary answers too: it ends a block only where one of that kind was opened.
    ends = [found.end() for found in _CLOSING.finditer(text) if block or found[0].lower() != "</details>"]
    if ends:
        text = text[ends[-1] :]
    return "" if _OPENING.search(text) else _MARK.sub(" ", text).strip()
