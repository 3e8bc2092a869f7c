"""The date that a chat template writes, kept constant over a run and its resumption."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

from personascope.engines import Engine, EngineInfo
from personascope.errors import EngineError, StoreError
from personascope.store import read_json

MANIFEST = "manifest.json"
_KEY = "chat_date"


def dated(engine: Engine, out: Path, *, restart: bool = False) -> Engine:
    """Return an engine that writes the date of the folder's run, so that a resumed run keeps its prompts.

    A run without a recorded date uses the day on which its manifest was written. The engine is returned
    unchanged if its chat template writes no date, or if the run is new.

    Args:
        engine: Engine of the run.
        out: Run folder.
        restart: Whether the run in the folder will be discarded.

    Raises:
        EngineError: If the engine cannot change the date that it writes.
    """
    path = out / MANIFEST
    if restart or not engine.info.chat_date or not path.exists():
        return engine
    try:
        record = read_json(path)
        stored = record.get("notes", {}).get(_KEY, "")
        day = (
            date.fromisoformat(stored) if stored else datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        )
    except (StoreError, ValueError, AttributeError, OSError):
        # Opening the run folder reports the damage.
        return engine
    return on_day(engine, day.isoformat())


def on_day(engine: Engine, day: str) -> Engine:
    """Return an engine whose chat template writes the given date (YYYY-MM-DD).

    Raises:
        EngineError: If the engine cannot change the date that it writes.
    """
    if not engine.info.chat_date or engine.info.chat_date == day:
        return engine
    change = getattr(engine, "with_today", None)
    if change is None:
        raise EngineError(
            f"the chat template writes the date, the run was begun on {day}, and {type(engine).__name__} "
            "cannot write that date",
            hint="use an engine of personascope, or begin the run anew",
        )
    return cast("Engine", change(date.fromisoformat(day)))


def chat_notes(info: EngineInfo) -> dict[str, Any]:
    """Return the manifest notes of the chat template: the date that it writes, if any."""
    return {_KEY: info.chat_date} if info.chat_date else {}
