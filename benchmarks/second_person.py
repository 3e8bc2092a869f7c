"""Two corpora of the same 60 roles: with the built-in prompts, and with long ones in the second person.

    python benchmarks/second_person.py FOLDER
    personascope map MODEL --profile quick --roles 60 --seed 101 --corpus FOLDER/builtin
    personascope map MODEL --profile quick --roles 60 --seed 101 --corpus FOLDER/long

The long prompts (second_person.json, three a role, 57 to 67 words, written for this) tell a model in the
second person who it is, what it wants and how it speaks, as released role files do. Both folders are in the
released format.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from personascope.corpus import load_corpus, write_released


def main(folder: Path) -> None:
    corpus = load_corpus()
    prompts = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    roles = [role for role in corpus.roles if role.name in prompts]
    for name in ("builtin", "long"):
        chosen = [
            replace(role, prompts=tuple(prompts[role.name])) if name == "long" else role for role in roles
        ]
        written = write_released(replace(corpus, name=name, roles=tuple(chosen)), folder / name)
        print(f"{written}: {len(chosen)} roles, digest {load_corpus(written).digest[:12]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
