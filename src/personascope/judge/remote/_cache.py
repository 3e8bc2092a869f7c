"""Keep paid scores in a cache on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from personascope.chat import Message
from personascope.errors import JudgeError
from personascope.judge._rubric import RUBRIC_DIGEST


def cache_key(
    model: str,
    base_url: str,
    messages: Sequence[Message],
    parameters: dict[str, object],
    rubric: str = RUBRIC_DIGEST,
) -> str:
    """Return the key of a cached score, a SHA-256 (hex).

    The server's address belongs to the key, because local servers give every model the same name ("default").
    ``rubric`` is the digest of the item's rubric, because a cached score is an index into its labels.
    """
    content = {
        "model": model,
        "base_url": base_url,
        "rubric": rubric,
        "messages": [[message.role, message.content] for message in messages],
        "parameters": parameters,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class ScoreCache:
    """Cache of scores by key in an SQLite file, which several processes may share.

    Args:
        path: SQLite file; it and its folder are made if they do not exist.

    Raises:
        JudgeError: If the file is not an SQLite database, or cannot be read or written. The methods raise it
            too.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._path = path
        self._lock = threading.Lock()
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        with self._guarded():
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS scores_1"
                " (key TEXT PRIMARY KEY, score INTEGER NOT NULL, reason TEXT NOT NULL, model TEXT NOT NULL,"
                " made_at REAL NOT NULL) WITHOUT ROWID"
            )

    def get(self, key: str) -> tuple[int, str] | None:
        """Return the cached score and reason of a key, or None."""
        with self._guarded(), self._lock:
            row = self._file.execute("SELECT score, reason FROM scores_1 WHERE key = ?", (key,)).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def put(self, key: str, score: int, reason: str, model: str) -> None:
        """Store a score and its reason, replacing an older one of the same key."""
        with self._guarded(), self._lock:
            row = (key, score, reason, model, time.time())
            self._file.execute("INSERT OR REPLACE INTO scores_1 VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextlib.contextmanager
    def _guarded(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JudgeError(
                f"the judge cache {self._path} cannot be used: {error}",
                hint="give another cache file, or delete this one if nothing else needs it",
            ) from error
