"""Detect that a judge model declined to judge."""

from __future__ import annotations

import re

from personascope.judge.parsing._answer import body_of

_DECLINES = re.compile(
    r"\W*(?:(?:i(?:'|\u2019)?m|i am)\s+(?:(?:very|so|really)\s+)?(?:sorry|unable|not able)\b"
    r"|sorry,|(?:sorry,?\s+)?(?:but\s+)?i\s+(?:can(?:'|\u2019)?t|cannot|can not|won(?:'|\u2019)?t|will not)\b"
    r"|as an ai\b)",
    re.I,
)


def is_refusal(text: str) -> bool:
    """Return whether a reply without a label begins by declining, which asking again would not change."""
    return bool(_DECLINES.match(body_of(text)))
