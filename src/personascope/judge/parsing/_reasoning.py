"""Remove the reasoning that a server leaves in a reply before the answer."""

from __future__ import annotations

import re

from personascope.chat import CLOSING_TAG, OPENING_TAG

# Tags around the reasoning of models, and others that judges were seen to use. The two ends need not match:
# what matters is that the answer follows the second.
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
    """Return what a reply says after its reasoning; "" if the reasoning does not end.

    Recognized are ``<think>``, ``[THINK]`` and the like, ``<details type="reasoning">``, and the channels of
    gpt-oss. A chat template may have opened the block already, so that the reply holds its end only.

    Unlike `personascope.chat.split_reasoning`, which must keep every word of an answer, this also removes a
    block in mid-text, because a label inside one does not count.
    """
    opened = _OPENING.search(text)
    block = opened is not None and opened[0].lower().startswith("<details")
    # </details> occurs in ordinary answers too, so it ends a block only if <details> opened one.
    ends = [found.end() for found in _CLOSING.finditer(text) if block or found[0].lower() != "</details>"]
    if ends:
        text = text[ends[-1] :]
    return "" if _OPENING.search(text) else _MARK.sub(" ", text).strip()
