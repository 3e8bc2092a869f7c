"""Recognize the folder of an imported release by its file."""

from __future__ import annotations

from pathlib import Path

RELEASED_JSON = "released.json"


def is_release(folder: Path | str) -> bool:
    """Return whether ``personascope import`` wrote a folder."""
    return (Path(folder) / RELEASED_JSON).is_file()
