"""Store a plan on disk: ``plan.json`` for people to read, ``plan.safetensors`` for directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from personascope.errors import InterventionError, StoreError
from personascope.store import read_json, remove, sync, tmp_path, write_bytes

FORMAT = 1
JSON, TENSORS = "plan.json", "plan.safetensors"
_REMAKE = "save the plan again"


def write_plan(folder: Path, record: dict[str, Any], directions: list[np.ndarray]) -> None:
    """Write a plan's folder, or replace the plan in it; a folder with anything else is refused.

    Raises:
        StoreError: If the folder cannot be written, or holds something that is not a plan.
    """
    strange = []
    if folder.exists():
        entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else [folder.name]
        strange = [name for name in entries if name not in (JSON, TENSORS)]
    if strange:
        raise StoreError(
            f"{folder} holds {strange[0]}, which is not part of a plan", hint="give a new or an empty folder"
        )
    tmp = tmp_path(folder)
    remove(tmp)
    try:
        tmp.mkdir(parents=True)
        stacked = np.ascontiguousarray(np.stack(directions), np.float32)
        write_bytes(tmp / TENSORS, save({"directions": stacked}, {"digest": record["digest"]}))
        text = json.dumps({"format": FORMAT, **record}, indent=1, ensure_ascii=False, allow_nan=False)
        write_bytes(tmp / JSON, f"{text}\n".encode())
        if folder.exists():
            # Both files carry the digest, so that a kill between the two renames is noticed on reading.
            for name in (TENSORS, JSON):
                (tmp / name).replace(folder / name)
            tmp.rmdir()
        else:
            tmp.rename(folder)
        sync(folder.parent)
    except OSError as error:
        remove(tmp)
        raise StoreError(
            f"{folder} could not be written: {error.strerror or error}",
            hint="free space or choose another folder",
        ) from error


def read_plan(folder: Path) -> tuple[Any, bytes]:
    """Return a plan's record and the bytes of its tensor file, unchecked.

    Raises:
        StoreError: If a file is missing or damaged.
    """
    record = read_json(folder / JSON)
    try:
        return record, (folder / TENSORS).read_bytes()
    except OSError as error:
        raise StoreError(f"{folder / TENSORS} cannot be read: {error}", hint=_REMAKE) from error


def check_plan(record: Any, tensors: bytes, whose: str) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Check a plan's record and tensor file, and return the record and the directions.

    Raises:
        StoreError: If the tensors are damaged.
        InterventionError: If the record is of another format.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InterventionError(f"{JSON} of {whose} holds no plan of format {FORMAT}", hint=_REMAKE)
    try:
        return record, list(load(tensors)["directions"])
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{TENSORS} of {whose} cannot be read: {error}", hint=_REMAKE) from error
