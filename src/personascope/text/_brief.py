"""One-line representations of values that hold arrays, long texts or many parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from personascope.text._characters import escape_controls

_LONGEST = 60
_MOST = 8


def brief(value: Any) -> str:
    """Return the representation of a dataclass instance on one line.

    Arrays are given by dtype and shape, long texts by their beginning, and long collections by their size.
    """
    parts = [f"{one.name}={_part(getattr(value, one.name))}" for one in fields(value) if one.repr]
    return f"{type(value).__name__}({', '.join(parts)})"


def _part(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{dtype} {list(shape)}" if len(shape) else f"{value}"
    if isinstance(value, str):
        return shorten(value)
    if isinstance(value, Mapping | Sequence | set | frozenset):
        sized = cast("Sequence[Any]", value)
        if len(sized) > _MOST:
            return f"<{len(sized)} in a {type(value).__name__}>"
    text = escape_controls(repr(value))
    return text if len(text) <= 2 * _LONGEST else f"<{type(value).__name__}>"


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return the representation of a text, cut to a length, with control characters escaped."""
    return repr(text if len(text) <= longest else f"{text[: longest - 3]}...")
