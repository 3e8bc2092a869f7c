"""A tiny model, a small corpus and the command line around them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from tiny import save_tiny

TESTS = Path(__file__).parents[1]


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


def personascope(*args: str | Path, limit_file_size: int | None = None, **env: str) -> Ran:
    """Run the command line in a process of its own.

    Args:
        args: Arguments.
        limit_file_size: Bytes that a file may have at most: writing more fails as on a full disk.
        env: More environment.
    """

    def limit() -> None:
        import resource

        if limit_file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_size, limit_file_size))

    done = subprocess.run(
        [sys.executable, "-m", "personascope", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **env},
        preexec_fn=limit,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


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
