"""Storage of norms in the run folder of a map, so that they are measured only once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from personascope.chat import Conversation
from personascope.corpus.datasets import load_chats
from personascope.directions._norms import Norms, residual_norms
from personascope.engines import Engine
from personascope.errors import StoreError
from personascope.runs import ProgressCallback
from personascope.store import Record, read_record, write_record

NORMS = "norms.json"
_AGAIN = "delete it; it is measured again"

log = logging.getLogger(__name__)


def keep_norms(folder: Path, norms: Norms, *, revision: str) -> None:
    """Write ``norms.json`` into a folder.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_record(folder / NORMS, {**asdict(norms), "mean": norms.mean.tolist(), "revision": revision})


class _NormsRecord(Record):
    mean: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    chats: int
    tokens: int
    skipped: list[str]
    source: str
    revision: str


def read_norms(folder: Path, *, revision: str, n_layers: int) -> Norms | None:
    """Read the norms stored in a folder; return None if there are none.

    Args:
        folder: Folder with ``norms.json``.
        revision: Expected revision of the model.
        n_layers: Expected number of layers.

    Raises:
        StoreError: If the file is damaged, or of another model.
    """
    path = folder / NORMS
    if not path.exists():
        return None
    record = read_record(path, _NormsRecord, hint=_AGAIN)
    if record.revision != revision:
        raise StoreError(
            f"{path} is of the model revision {record.revision[:12]}, this is {revision[:12]}", hint=_AGAIN
        )
    if len(record.mean) != n_layers:
        raise StoreError(f"{path} has {len(record.mean)} norms, the model {n_layers} layers", hint=_AGAIN)
    mean = np.array(record.mean, np.float64)
    return Norms(mean, record.chats, record.tokens, tuple(record.skipped), record.source)


def norms_for(
    engine: Engine,
    folder: Path,
    *,
    chats: Iterable[Conversation] | None = None,
    source: str = "builtin",
    progress: ProgressCallback | bool = True,
) -> Norms:
    """Return the norms stored in a folder, or measure them on ordinary chats and store them there.

    If norms of the built-in chats cannot be stored (a read-only folder, a full disk), that is only logged,
    because they can be measured again. Failing to store the norms of given chats is an error.

    Args:
        engine: Engine of the model.
        folder: Run folder of its map, or any other folder.
        chats: Chats to measure on, even if norms are stored; None uses the stored norms, or else the built-in
            chats.
        source: Description of ``chats``.
        progress: Whether to show a progress bar, or a callback to call for each chat instead.

    Raises:
        StoreError: If the stored norms are damaged or of another model, or norms of ``chats`` cannot be
            stored.
    """
    revision = engine.info.model_revision
    kept = None if chats is not None else read_norms(folder, revision=revision, n_layers=engine.info.n_layers)
    if kept is not None:
        return kept
    norms = residual_norms(
        engine, load_chats().chats if chats is None else chats, source=source, progress=progress
    )
    try:
        keep_norms(folder, norms, revision=revision)
    except StoreError as error:
        if chats is not None:
            raise
        log.warning("the norms are not kept, and measured again next time: %s", error.message)
    return norms
