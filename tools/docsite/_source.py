"""The address of the project's repository, which pyproject.toml alone says."""

from __future__ import annotations

import tomllib
from pathlib import Path

KEY = "Repository"


def repository(root: Path) -> str:
    """Return the address of the repository, ``project.urls.Repository``; "" while the project has none.

    Args:
        root: Folder with pyproject.toml.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get(KEY, "").removesuffix("/").removesuffix(".git")


def install_source(root: Path) -> str:
    """Return what pip installs the package from in a fresh notebook; "" for the package index."""
    found = repository(root)
    return f"git+{found}" if found else ""


def colab_link(root: Path, notebook: str) -> str:
    """Return the address that opens a notebook in Colab; "" for a repository that Colab cannot open.

    Args:
        root: Folder with pyproject.toml.
        notebook: File in the folder of notebooks.
    """
    start = "https://github.com/"
    found = repository(root)
    if not found.startswith(start):
        return ""
    place = found.removeprefix(start)
    return f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{notebook}"
