"""Characters that no file or no terminal takes as they are."""

from __future__ import annotations

import re

_SURROGATES = re.compile("[\ud800-\udfff]")
# Controls of both kinds except tab and newline, and what turns the direction of a line round.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def replace_surrogates(text: str) -> str:
    r"""Return a text that UTF-8 can hold: a lone surrogate (``\ud800`` in JSON) becomes U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def escape_controls(text: str) -> str:
    r"""Return a text that a terminal shows and does not obey: control characters are written as ``\x1b``.

    Tabs and newlines stay. Escaped too are the marks that turn the direction of writing, since they let a
    name pass for another.
    """
    return _CONTROLS.sub(lambda found: _escaped(ord(found[0])), text.replace("\r\n", "\n"))


def escape_controls_in_json(text: str) -> str:
    """Return JSON with the same value in which no such character stands as itself."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
