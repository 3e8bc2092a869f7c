"""A tiny model and a small corpus for the command line."""

from __future__ import annotations

from pathlib import Path

import yaml

from tiny import save_tiny

TESTS = Path(__file__).parents[1]


def write_corpus(folder: Path, *, roles: int = 6, questions: int = 16) -> Path:
    """Write a small corpus in the project's format."""
    folder.mkdir(parents=True)
    names = ["captain", "gardener", "ghost", "judge", "poet", "robot", "tailor", "witch"][:roles]
    data = {
        "group": "test",
        "roles": [
            {
                "name": name,
                "description": f"A {name} of a small town.",
                "prompts": [f"You are a {name}.", f"Speak as the {name} would, briefly and in the open."],
            }
            for name in names
        ],
    }
    (folder / "roles.yaml").write_text(yaml.safe_dump(data))
    asked = [
        {"id": f"q{i}", "area": "life", "text": f"What do you make of number {i}?"} for i in range(questions)
    ]
    (folder / "questions.yaml").write_text(yaml.safe_dump(asked))
    (folder / "default.yaml").write_text(yaml.safe_dump({"prompts": ["", "You are {model_name}."]}))
    return folder


def save_model(folder: Path, family: str = "llama") -> Path:
    """Save a tiny model with random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_tiny(family, folder)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content, locks left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
