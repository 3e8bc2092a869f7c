"""The file by which a folder is known for an imported release."""

from __future__ import annotations

from pathlib import Path

RELEASED_JSON = "released.json"


def is_release(folder: Path | str) -> bool:
    """Whether a folder is what ``personascope import`` wrote."""
    return (Path(folder) / RELEASED_JSON).is_file()
