"""Rooms whose names are imported when they are used.

A room's names stand in its ``__init__.pyi``, which type checkers read as they are; at run time each is
imported from its file on first use. With ``EAGER_IMPORT=1`` in the environment all are imported at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]

Attached = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def attach(package: str, file: str) -> Attached:
    """Return a room's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: The room's ``__name__``.
        file: Its ``__file__``, beside which the stub lies.
    """
    return cast("Attached", lazy_loader.attach_stub(package, file))  # pyright: ignore[reportUnknownMemberType]
