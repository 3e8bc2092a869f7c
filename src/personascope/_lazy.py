"""Import the names of a subpackage on first use.

A subpackage lists its names in its ``__init__.pyi``, which type checkers read. At run time each is imported
from its file on first use. With ``EAGER_IMPORT=1`` in the environment all are imported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def not_found(package: str, file: str, name: str, known: Sequence[str]) -> AttributeError:
    """Return the error for a name that a package does not have: what was meant, or the room that has it.

    Args:
        package: ``__name__`` of the package.
        file: ``__file__`` of the package.
        name: Name that was asked for.
        known: Names of the package.
    """
    # Import here, because only an error needs them.
    import re
    from difflib import get_close_matches
    from pathlib import Path

    hint = ""
    near = get_close_matches(name, known, n=2, cutoff=0.6)
    if not name.startswith("_"):
        stubs = sorted(Path(file).parent.glob("*/**/__init__.pyi"), key=lambda path: len(path.parts))
        rooms = [
            path for path in stubs if re.search(rf'^    "{re.escape(name)}",$', path.read_text("utf-8"), re.M)
        ]
        if rooms:
            room = ".".join([package, *rooms[0].parent.relative_to(Path(file).parent).parts])
            hint = f": it is in {room} (from {room} import {name})"
        elif near:
            hint = f": did you mean {' or '.join(near)}?"
    return AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)
