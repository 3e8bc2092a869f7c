"""The cache folder, and cached hashes and fingerprints of model files."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from personascope.errors import ModelError

_CHUNK = 1 << 20
_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


def cache_root(cache_dir: Path | None = None) -> Path:
    """Return personascope's cache folder: the argument, $PERSONASCOPE_CACHE, or the platform's default."""
    if cache_dir is not None:
        return cache_dir
    if named := os.environ.get("PERSONASCOPE_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "personascope"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "personascope"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "personascope"


def file_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256, in hex, of the concatenated bytes of files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    return digest.hexdigest()


def remembered_sha256(paths: Sequence[Path], root: Path) -> str:
    """Return `file_sha256`, cached under ``root`` while path, size and mtime of the files stay the same."""
    key = hashlib.sha256(json.dumps(_stats(paths)).encode()).hexdigest()
    note = root / "hashes" / key
    try:
        remembered = note.read_text().strip()
    except OSError:  # an error that lasts is raised when the note is written
        remembered = ""
    if len(remembered) == 64:
        return remembered
    sha256 = file_sha256(paths)
    write_atomically(note, sha256)
    return sha256


def sampled_fingerprint(folder: Path) -> str:
    """Return a hex digest of a model folder that differs between fine-tunes of one model.

    It covers the config and the names, sizes and evenly spaced samples of the weight files, so that a
    folder of hundreds of gigabytes takes about a second.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    weights = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin"))
    for path in weights:
        size = path.stat().st_size
        digest.update(f"\0{path.name}\0{size}\0".encode())
        step = max(_SAMPLE_BYTES, size // _SAMPLES)
        with path.open("rb") as file:
            for offset in range(0, size, step):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def adapter_fingerprint(folder: Path) -> str:
    """Return a hex digest of an adapter's config and whole weights, which are small."""
    return file_sha256([folder / "adapter_config.json", *sorted(folder.glob("*.safetensors"))])


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that readers see all of it or none.

    Raises:
        ModelError: If the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".tmp-", delete=False) as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        raise ModelError(
            f"the cache file {path} cannot be written: {error}",
            hint="free some space, or point PERSONASCOPE_CACHE at a folder that can be written",
        ) from error


def _stats(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    stats = [(path.resolve(), path.stat()) for path in paths]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
