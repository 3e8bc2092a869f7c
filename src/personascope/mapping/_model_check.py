"""A short check of the engine on the model before mapping, made once per run folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from personascope.engines import Engine, TransformersEngine, verify_model
from personascope.errors import EngineError
from personascope.store import read_json, write_json

log = logging.getLogger(__name__)

FILE = "model_check.json"


def check_model(engine: Engine, folder: Path, *, restart: bool) -> dict[str, Any] | None:
    """Check the engine's activations against the model's own library, unless the folder records a check.

    Returns:
        The record to write, or None if the engine is not checked or the check is already recorded.

    Raises:
        EngineError: If an operation that mapping depends on differs; the message names it.
    """
    if not isinstance(engine, TransformersEngine):
        return None
    info = engine.info
    of = info.identity | {"versions": dict(info.versions)}
    path = folder / FILE
    if not restart and path.is_file() and read_json(path).get("of") == of:
        return None
    checks = verify_model(engine, short=True)
    bad = [check for check in checks if check.outcome != "SUPPORTED"]
    if bad:
        raise EngineError(
            f"{info.model_id}: {bad[0].operation} is {bad[0].outcome}: {bad[0].detail}",
            hint=f"see personascope doctor --model {info.model_id}; try --dtype float32",
        )
    for check in checks:
        log.info("%s of %s equals the model's own: %s", check.operation, info.model_id, check.detail)
    return {"of": of, "checks": {check.operation: check.detail for check in checks}}


def record_check(folder: Path, record: dict[str, Any] | None) -> None:
    """Write the record of a check into a run folder; do nothing for None."""
    if record is not None:
        write_json(folder / FILE, record)
