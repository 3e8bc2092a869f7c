"""Atomic writing of a map's folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from personascope.errors import SpaceError, StoreError
from personascope.space._checks import FOLLOWED, NUISANCES, MapChecks
from personascope.space._meta import MapMeta
from personascope.space._record import tensor_digests
from personascope.space._space import Space
from personascope.store import remove, sealed, sync, tmp_path

FORMAT = 1
MAP = "map"
"""Name of the map's folder in a run folder."""

MAP_JSON = "map.json"
TENSORS = "map.safetensors"


def write_map(folder: Path, space: Space, meta: MapMeta) -> None:
    """Write a map into a temporary sibling folder, sync it, and rename it into place.

    Raises:
        StoreError: If it cannot be written; an earlier map is left untouched.
        SpaceError: If the metadata does not fit the space.
    """
    tensors, record = _contents(space, meta)
    write_folder(folder, tensors, record, names=(MAP_JSON, TENSORS), what="map")


def write_folder(
    folder: Path, tensors: dict[str, np.ndarray], record: dict[str, Any], *, names: tuple[str, str], what: str
) -> None:
    """Write a record and its tensors into a temporary sibling folder, sync it, and rename it into place.

    Args:
        folder: Folder to write; other files in an earlier one are carried over.
        tensors: Tensors to write.
        record: Record to write, with the tensors' digest as its field "pair"; it gets the file's SHA-256.
        names: Names of the record's and the tensors' files.
        what: What the folder holds, for messages.

    Raises:
        StoreError: If it cannot be written, or the folder holds something else; nothing is changed then.
    """
    json_name, tensors_name = names
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file", hint=f"Choose another folder for the {what}.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / json_name).exists():
        raise StoreError(f"{folder} holds files and is not a {what}", hint="Choose an empty or new folder.")
    token = secrets.token_hex(4)
    # Run folders delete leftovers of an interrupted process by this name.
    new = tmp_path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove(new)
        new.mkdir()
        save_file(tensors, new / tensors_name, metadata={"pair": record["pair"]})
        with (new / tensors_name).open("rb") as file:
            record["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        (new / json_name).write_text(json.dumps(sealed(record), indent=1) + "\n", encoding="utf-8")
        for path in (new / tensors_name, new / json_name, new):
            sync(path)
        _swap(new, folder, token, names)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise StoreError(
            f"the {what} {folder} could not be written: {error}",
            hint="Free some space or choose another folder, and run the same command again.",
        ) from error
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _swap(new: Path, folder: Path, token: str, names: tuple[str, str]) -> None:
    """Replace the old folder by the new one, and carry over the old one's other files."""
    old = folder.with_name(f".{folder.name}.old-{token}")
    replaced = folder.is_dir()
    if replaced:
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if replaced:
            old.rename(folder)
        raise
    if replaced:
        for path in old.iterdir():
            if path.name not in names:
                path.rename(folder / path.name)
        shutil.rmtree(old)
    sync(folder.parent)


def _contents(space: Space, meta: MapMeta) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    shape = (meta.model.n_layers, meta.model.d_model)
    if space.axis.shape != shape:
        raise SpaceError(f"the space has shape {space.axis.shape}, and the model {shape}")
    n = len(meta.quantiles.percentiles)
    given = {
        "response_norms": (meta.response_norms, (shape[0],)),
        "quantiles.role": (meta.quantiles.role, (shape[0], n)),
        "quantiles.default": (meta.quantiles.default, (shape[0], n)),
    }
    for name, (value, wanted) in given.items():
        if value.shape != wanted or not np.isfinite(value).all():
            raise SpaceError(f"{name} must be {wanted} finite numbers, and is {value.shape}")
    arrays = {name: value for name, (value, _) in given.items()}
    for name in ("axis", "default_vector", "role_vectors", "somewhat_vectors", "mean", "components"):
        arrays[name] = getattr(space, name)
    checks = meta.checks
    if checks is not None:
        wanted = (shape[0], len(NUISANCES), len(FOLLOWED))
        if checks.correlations.shape != wanted:
            raise SpaceError(
                f"the checks' correlations must be {wanted}, and are {checks.correlations.shape}"
            )
        arrays["checks.correlations"] = checks.correlations
    scalars: dict[str, int] = {}
    for field in dataclasses.fields(space.stats):
        value = getattr(space.stats, field.name)
        if isinstance(value, np.ndarray):
            arrays[f"stats.{field.name}"] = value
        else:
            scalars[field.name] = int(value)
    counts = {
        name: {**row, "unscored": int(meta.unscored.get(name, 0)), "empty": int(meta.empty.get(name, 0))}
        for name, row in space.counts.items()
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    record: dict[str, Any] = {
        "format": FORMAT,
        "pair": arrays_digest(arrays),
        "tensors": sorted(arrays),
        "digests": tensor_digests(arrays),
        "roles": list(space.roles),
        "somewhat": list(space.somewhat),
        "excluded": space.excluded,
        "counts": counts,
        "model": meta.model.record,
        "middle_layer": space.middle_layer,
        "min_fully": space.min_fully,
        "min_somewhat": space.min_somewhat,
        "corpus_digest": meta.corpus_digest,
        "versions": dict(meta.versions),
        "command": meta.command,
        "percentiles": list(meta.quantiles.percentiles),
        "stats": scalars,
        "checks": None if checks is None else _checks_record(checks),
        "curve": None if meta.curve is None else meta.curve.record,
    }
    return arrays, record


def _checks_record(checks: MapChecks) -> dict[str, Any]:
    return {
        "design": checks.design,
        "profile": dict(checks.profile),
        "vectors": checks.vectors,
        "threshold": checks.threshold,
        "roles": {name: dataclasses.asdict(role) for name, role in checks.roles.items()},
        "cut": checks.cut,
        "garbled": checks.garbled,
        "perplexity": checks.perplexity,
        "n_roles": checks.n_roles,
        "length_adjusted": checks.length_adjusted,
        "judges": dict(checks.judges),
        "cosines": [list(row) for row in checks.cosines],
        "other": None if checks.other is None else dataclasses.asdict(checks.other),
        "nuisances": list(NUISANCES),
    }


def arrays_digest(arrays: dict[str, np.ndarray]) -> str:
    """Return a digest of the arrays' content, so that equal runs write equal files."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
