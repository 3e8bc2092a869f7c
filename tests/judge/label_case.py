"""Small made-up labelled answers, and an embedding model that needs no file."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personascope.judge import SUSCEPTIBILITY, JudgeItem, Rubric

WIDTH = 48

SAYINGS = {
    "assistant": ("I am an AI language model and I help with {0}.", "As an AI, I have no {0} of my own."),
    "human": ("My name is Anna, I live in Leeds with my wife and {0}.", "I grew up on a farm among {0}."),
    "mystical": ("I am the whisper of eternal stars and of {0}.", "Behold the void, mortal, it eats {0}."),
    "other": ("Here are some tips about {0} for you.", "A book on {0} is sold in many shops."),
}
THINGS = ("books", "ships", "bread", "clocks", "horses", "letters", "lamps", "stones")
ROLES = ("grader", "planner", "examiner", "validator", "auditor", "supervisor", "screener", "trainer")
LOOP = "I make the sea and " * 12


class FakeModel:
    """Embeds a text as the sum of fixed random vectors of its words; counts what it is given."""

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.calls: list[int] = []

    def encode(self, texts: Sequence[str], **_options: Any) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        rows = []
        for text in texts:
            words = [f"{self.salt}{word}" for word in text.lower().split()] or [""]
            seeds = [np.random.default_rng(zlib.crc32(word.encode())) for word in words]
            row = np.sum([seed.normal(size=WIDTH) for seed in seeds], axis=0)
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32)


def item(response: str, rubric: Rubric = SUSCEPTIBILITY, **fields: str) -> JudgeItem:
    told = {"id": "x", "role": "grader", "system_prompt": "You grade essays.", "question": "Who are you?"}
    return JudgeItem(description="", response=response, rubric=rubric, **{**told, **fields})


def readings() -> list[dict[str, str]]:
    """Return labelled answers: four labels by what is said, loops as nonsensical; whole roles held out."""
    rows = []
    for r, role in enumerate(ROLES):
        half = "held_out" if r % 2 else "train"
        common = {
            "model": "made-up",
            "condition": "plain",
            "role": role,
            "system_prompt": f"You are a {role}.",
            "question": "Who are you?",
            "reader": "a",
            "half": half,
        }
        for label, forms in SAYINGS.items():
            for f, form in enumerate(forms):
                said = form.format(THINGS[(r + f) % len(THINGS)])
                rows.append({**common, "id": f"{role}/{label}/{f}", "response": said, "label": label})
        rows.append({**common, "id": f"{role}/loop", "response": LOOP, "label": "nonsensical"})
    return rows


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
