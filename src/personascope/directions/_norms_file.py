"""Norms beside a map: measured once, and kept in the run folder for later commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from personascope.chat import Conversation
from personascope.corpus.datasets import load_chats
from personascope.directions._norms import Norms, residual_norms
from personascope.engines import Engine
from personascope.errors import StoreError
from personascope.runs import ProgressCallback
from personascope.store import read_json, write_json

NORMS = "norms.json"


def keep_norms(folder: Path, norms: Norms, *, revision: str) -> None:
    """Write ``norms.json`` into a folder.

    Raises:
        StoreError: If it cannot be written.
    """
    write_json(folder / NORMS, {**asdict(norms), "mean": norms.mean.tolist(), "revision": revision})


def read_norms(folder: Path, *, revision: str) -> Norms | None:
    """Return the norms that were kept in a folder; None if there are none.

    Raises:
        StoreError: If the file is damaged, or of another model.
    """
    path = folder / NORMS
    if not path.exists():
        return None
    record = read_json(path)
    try:
        norms = Norms(
            np.array(record["mean"], np.float64),
            int(record["chats"]),
            int(record["tokens"]),
            tuple(record["skipped"]),
            str(record["source"]),
        )
        of = str(record["revision"])
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is damaged: {error}", hint="delete it; it is measured again") from error
    if of != revision:
        raise StoreError(
            f"{path} is of the model revision {of[:12]}, this is {revision[:12]}",
            hint="delete it; it is measured again",
        )
    return norms


def norms_for(
    engine: Engine,
    folder: Path,
    *,
    chats: Iterable[Conversation] | None = None,
    source: str = "builtin",
    progress: ProgressCallback | bool = True,
) -> Norms:
    """Return the norms kept in a folder, or measure them on ordinary chats and keep them there.

    Args:
        engine: The model.
        folder: The run folder of its map, or any other.
        chats: Measure on these, whatever is kept; None for what is kept, else the built-in chats.
        source: What ``chats`` are.
        progress: Whether to show a bar, or what to call after each chat instead.
    """
    revision = engine.info.model_revision
    kept = None if chats is not None else read_norms(folder, revision=revision)
    if kept is not None:
        return kept
    norms = residual_norms(
        engine, load_chats().chats if chats is None else chats, source=source, progress=progress
    )
    keep_norms(folder, norms, revision=revision)
    return norms
