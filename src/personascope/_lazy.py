"""Import the names of a subpackage on first use.

A subpackage lists its names in its ``__init__.pyi``, which type checkers read. At run time each is imported
from its file on first use. With ``EAGER_IMPORT=1`` in the environment all are imported at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import lazy_loader  # pyright: ignore[reportMissingTypeStubs]

Attached = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def attach(package: str, file: str) -> Attached:
    """Return a subpackage's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: ``__name__`` of the subpackage.
        file: ``__file__`` of the subpackage, beside which the stub lies.
    """
    return cast("Attached", lazy_loader.attach_stub(package, file))  # pyright: ignore[reportUnknownMemberType]
