"""Addresses of what is shared: ``hub:owner/name[:folder][@revision]``, a folder, or an archive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from personascope.errors import UsageError
from personascope.text import shorten

HUB = "hub:"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
"""Endings of archives that are written and read."""

_ADDRESS = re.compile(
    r"hub:(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?::(?P<folder>[\w-][\w.-]*(?:/[\w-][\w.-]*)*))?"
    r"(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A data set on the hub.

    Attributes:
        repo: Owner and name.
        folder: Folder in it, for releases that hold several models; "" for the whole.
        revision: Branch, tag or commit; None for the main branch.
    """

    repo: str
    folder: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        """Return the address as it is typed."""
        folder = f":{self.folder}" if self.folder else ""
        return f"{HUB}{self.repo}{folder}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and is_commit(self.revision)


def is_commit(text: str) -> bool:
    """Return whether a text is the full name of a commit."""
    return _COMMIT.fullmatch(text) is not None


def hub_address(text: Path | str) -> HubAddress | None:
    """Parse an address on the hub; return None for anything that does not begin with ``hub:``.

    Raises:
        UsageError: If it begins so and is malformed.
    """
    text = str(text)
    if not text.startswith(HUB):
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{shorten(text)} is no address on the hub",
            hint="write hub:owner/name, hub:owner/name@revision or hub:owner/name:folder",
        )
    return HubAddress(found["repo"], found["folder"] or "", found["revision"])


def is_archive(path: Path) -> bool:
    """Return whether a path's name ends as that of an archive."""
    return path.name.lower().endswith(ARCHIVES)
