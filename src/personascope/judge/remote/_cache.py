"""Scores that were already paid for, kept on disk."""

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
    """Return the hex SHA-256 under which a score is kept.

    The server's address belongs to the key: local servers give every model the same name
    ("default"), and a score of another model must never be taken for this one's. ``rubric`` is the
    digest of the item's rubric: a kept score is an index into its labels.
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
    """Scores by key in an SQLite file, which several processes may share.

    Args:
        path: The file; it and its folder are made if they do not exist.

    Raises:
        JudgeError: If the file is no SQLite database, or cannot be read or written. So do the methods.
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
        """Return the score and the reason kept under a key, or None."""
        with self._guarded(), self._lock:
            row = self._file.execute("SELECT score, reason FROM scores_1 WHERE key = ?", (key,)).fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def put(self, key: str, score: int, reason: str, model: str) -> None:
        """Keep a score; an older one under the same key is replaced."""
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
