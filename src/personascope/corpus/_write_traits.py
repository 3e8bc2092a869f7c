"""Write traits: a set in the released JSON format, and one trait in the project's format."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from personascope.corpus._traits import TraitEntry, TraitSet
from personascope.corpus._write import write_questions, write_whole
from personascope.store import write_bytes


def write_released_traits(traits: TraitSet, folder: str | Path) -> Path:
    """Write traits as ``traits/<trait>.json``, and ``questions.jsonl`` if they bring questions for all.

    Ids of questions become 0, 1, 2 ... All that makes up requests is kept, so ``requests_digest`` survives
    the round trip. Groups and descriptions are written as fields that other readers ignore.

    Args:
        traits: Traits to write.
        folder: Folder that does not exist yet, or is empty. It appears whole or not at all.

    Returns:
        Path of the folder.

    Raises:
        CorpusError: If the folder holds something already, or cannot be written.
    """
    return write_whole(folder, lambda scratch: _write(traits, scratch))


def _write(traits: TraitSet, folder: Path) -> None:
    inside = folder / "traits"
    inside.mkdir()
    for trait in traits.traits:
        data: dict[str, object] = {
            "instruction": [{"pos": pair.positive, "neg": pair.negative} for pair in trait.pairs],
            "questions": list(trait.questions),
        }
        more = (
            ("eval_prompt", trait.eval_prompt),
            ("group", trait.group),
            ("description", trait.description),
        )
        data |= {name: value for name, value in more if value}
        text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        (inside / f"{trait.name}.json").write_bytes(text.encode("utf-8"))
    if traits.questions:
        write_questions(traits.questions, folder)


def write_trait(trait: TraitEntry, path: Path) -> None:
    """Write one trait as a YAML file of the project's format, whole or not at all.

    Raises:
        StoreError: If the file cannot be written.
    """
    entry: dict[str, object] = {
        "name": trait.name,
        "description": trait.description,
        "pairs": [{"positive": pair.positive, "negative": pair.negative} for pair in trait.pairs],
    }
    if trait.questions:
        entry["questions"] = list(trait.questions)
    if trait.eval_prompt is not None:
        entry["eval_prompt"] = trait.eval_prompt
    value = {**({"group": trait.group} if trait.group else {}), "traits": [entry]}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
    write_bytes(path, text.encode("utf-8"))
