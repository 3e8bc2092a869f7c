"""Estimate of the measurement of norms, from a few of its chats; nothing is stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from personascope.chat import Conversation
from personascope.corpus.datasets import load_chats
from personascope.directions._norms import Norms, residual_norms
from personascope.directions._norms_file import read_norms
from personascope.engines import Engine
from personascope.runs import Meter, WorkStep, spread


def estimate_norms(
    engine: Engine, folder: Path, chats: Sequence[Conversation] | None = None, *, probe: int = 8
) -> tuple[Norms, WorkStep | None]:
    """Return the norms stored in a folder, or those of a few chats and what measuring all would take.

    Args:
        engine: Engine of the model.
        folder: Run folder of its map.
        chats: Chats to measure on, even if norms are stored; None uses the stored norms, or else the built-in
            chats.
        probe: Number of chats to read.

    Raises:
        StoreError: If the stored norms are damaged or of another model.
        EvaluationError: If no chat of the probe could be measured.
    """
    info = engine.info
    kept = None
    if chats is None:
        kept = read_norms(folder, revision=info.model_revision, n_layers=info.n_layers)
    if kept is not None:
        return kept, None
    known = load_chats().chats if chats is None else chats
    meter = Meter(engine)
    found = residual_norms(meter, [known[place] for place in spread(len(known), probe)], progress=False)
    return found, meter.step("norms", scale=len(known) / meter.passes)
