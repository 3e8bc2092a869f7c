"""A plan on the disk: ``plan.json`` for what is read by people, ``plan.safetensors`` for directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

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
            f"{folder} holds {strange[0]}, which is not part of a plan", mend="give a new or an empty folder"
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
            mend="free space or choose another folder",
        ) from error


def read_plan(folder: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return a plan's record and its directions.

    Raises:
        StoreError: If a file is missing or damaged.
        InterventionError: If it is of another format.
    """
    record = read_json(folder / JSON)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InterventionError(f"{folder / JSON} holds no plan of format {FORMAT}", mend=_REMAKE)
    try:
        tensors = load_file(folder / TENSORS)
        directions = list(tensors["directions"])
    except (OSError, SafetensorError, KeyError) as error:
        raise StoreError(f"{folder / TENSORS} cannot be read: {error}", mend=_REMAKE) from error
    return record, directions
