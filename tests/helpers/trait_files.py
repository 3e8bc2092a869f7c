"""A few traits for tests, in both formats."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

NAMES = ("cautious", "dramatic", "formal", "grounded")


def pairs(name: str, count: int = 5) -> list[tuple[str, str]]:
    """Return pairs of prompts of a trait."""
    plain = name.replace("_", " ")
    ways = (
        "in every sentence",
        "whatever the subject",
        "as one who was born so",
        "from the first word",
        "fully",
    )
    return [(f"You are {plain} {way}.", f"You are never {plain}, {way}.") for way in ways[:count]]


def write_ours(folder: Path, names: tuple[str, ...] = NAMES, count: int = 5) -> Path:
    """Write traits in the project's format, two groups in a file each."""
    (folder / "traits").mkdir(parents=True)
    for group, members in (("style", names[::2]), ("temper", names[1::2])):
        entries = [
            {
                "name": name,
                "description": f"Speaks in a {name} way.",
                "pairs": [{"positive": one, "negative": other} for one, other in pairs(name, count)],
            }
            for name in members
        ]
        if entries:
            text = yaml.safe_dump({"group": group, "traits": entries}, sort_keys=False)
            (folder / "traits" / f"{group}.yaml").write_text(text)
    return folder


def write_released(folder: Path, names: tuple[str, ...] = NAMES, count: int = 5) -> Path:
    """Write the same texts in the released format, in the folder itself."""
    folder.mkdir(parents=True)
    for name in names:
        instruction = [{"pos": one, "neg": other} for one, other in pairs(name, count)]
        value = {
            "instruction": instruction,
            "questions": [],
            "eval_prompt": f"How {name} is it, 0 to 100?\n{{question}}\n{{answer}}",
        }
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder
