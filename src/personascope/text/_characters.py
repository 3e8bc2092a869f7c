"""Replacement of characters that files cannot hold or terminals would obey."""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
# C0 and C1 control characters except tab and newline, bidirectional and line-separator marks, surrogates.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    r"""Replace lone surrogates (``\ud800`` in JSON) by U+FFFD, so that the text can be encoded as UTF-8."""
    return _SURROGATES.sub("\ufffd", text)


def escape_controls(text: str) -> str:
    r"""Escape control characters (as ``\x1b``), so that a terminal shows them instead of obeying them.

    Tabs and newlines are kept. Marks that change the writing direction are escaped too, because they can
    disguise a name as another.
    """
    return _CONTROLS.sub(lambda found: _escaped(ord(found[0])), text.replace("\r\n", "\n"))


def escape_controls_in_json(text: str) -> str:
    """Escape the same characters in JSON text, without changing its value."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
