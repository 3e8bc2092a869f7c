"""The licence of the model that a thing is of."""

from __future__ import annotations

import re
from typing import Any

from personascope.errors import UsageError

KNOWN = frozenset(
    (
        "afl-3.0", "agpl-3.0", "apache-2.0", "bigscience-bloom-rail-1.0", "bigscience-openrail-m",
        "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0",
        "cc0-1.0", "deepfloyd-if-license", "gemma", "gpl-3.0", "lgpl-3.0", "llama2", "llama3", "llama3.1",
        "llama3.2", "llama3.3", "mit", "mpl-2.0", "openrail", "unlicense",
    )
)  # fmt: skip
"""Licences that the hub has names for and that models have; any other is told as "other" with its name."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")


def check_licence(licence: str) -> str:
    """Return the name of a licence in lower case, as the hub writes it.

    Raises:
        UsageError: If it is no short name.
    """
    if not _NAME.fullmatch(licence):
        raise UsageError(
            f"{licence[:80]!r} is no name of a licence", hint="give one like apache-2.0 or llama3.1"
        )
    return licence.lower()


def front_matter(licence: str) -> dict[str, Any]:
    """Return the licence as fields of the hub's front matter; empty if it is unknown."""
    if not licence:
        return {}
    return {"license": licence} if licence in KNOWN else {"license": "other", "license_name": licence}
