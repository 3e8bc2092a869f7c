"""The conversation and the map of the tests of the notebook's names."""

from __future__ import annotations

from pathlib import Path

import personascope as ps
from personascope.api.notebook import Model

CHAT = [
    {"role": "user", "content": "Who are you?"},
    {"role": "assistant", "content": "The wind that waits behind the door."},
]


def map_tiny(place: Path, model: Model, out: Path | str) -> ps.PersonaMap:
    return ps.map(
        model,
        "quick",
        judge=None,
        corpus=place / "corpus",
        out=out,
        questions=4,
        default_samples=4,
        keep="all",
        progress=False,
        anyway=True,
    )
