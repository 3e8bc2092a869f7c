"""Detect the format of trait files, and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from personascope.corpus._entries import (
    QUESTION_FILES,
    TRAIT_LIST,
    YAML,
    as_list,
    beside,
    descriptions,
    entry_label,
    filled,
    folder_name,
    optional,
    read_questions,
    read_released_questions,
)
from personascope.corpus._files import read_json, read_yaml
from personascope.corpus._schema import Name, ReleasedTrait, TraitData, validate
from personascope.corpus._traits import TraitEntry, TraitPair, TraitSet
from personascope.corpus._types import DEFAULT_NAME, Question
from personascope.errors import CorpusError
from personascope.store import short

_BUILTIN = Path(__file__).parent / "data" / "traits"
_NO_TRAITS_YAML = ("corpus", "roles", "questions", DEFAULT_NAME)
"""Stems of YAML files that hold no trait."""
_NO_TRAITS_JSON = {f"{DEFAULT_NAME}.json", "role_list.json", TRAIT_LIST}


def load_traits(path: str | Path | None = None) -> TraitSet:
    """Load traits.

    Args:
        path: None for the built-in traits. Or one YAML file of the project's format, or one released JSON
            file. Or a folder in the project's format (``traits/*.yaml``, ``traits.yaml``, or the files in the
            folder itself; optionally ``questions.yaml``). Or a folder in the released format
            (``traits/*.json`` or the files in the folder itself, and optionally ``questions.jsonl``). Or the
            authors' repository or its ``data`` folder (``traits/instructions/*.json``).

    Returns:
        Traits sorted by name and questions in file order, so that the same texts give the same requests in
        every format.

    Raises:
        CorpusError: If there are no traits, or in both formats, or a file is malformed. The message names the
            file, the entry, the field, its value, and a remedy.
    """
    if path is None:
        files = sorted(p for p in _BUILTIN.glob("*") if p.suffix in YAML)
        if not files:
            raise CorpusError(
                "this installation has no built-in traits",
                hint="name a folder of trait files by --corpus (docs/traits.md has the format)",
            )
        return _ours(_BUILTIN, files, name="builtin", source="builtin")
    folder = Path(path)
    if folder.is_file():
        made = _ours if folder.suffix in YAML else _released
        return made(folder.parent, [folder], name=folder.stem, source=str(folder))
    if not folder.is_dir():
        raise CorpusError(
            f"{folder}: no such trait file or folder", hint="name a folder, or leave it out for the built-in"
        )
    if not (folder / "traits").exists() and (folder / "data" / "traits").is_dir():
        folder = folder / "data"
    ours, released = trait_files(folder)
    if ours and released:
        raise CorpusError(
            f"{folder}: has traits in both formats ({ours[0].name} and {released[0].name})",
            hint="keep the YAML files or the JSON files, in a folder each",
        )
    if ours:
        return _ours(folder, ours, name=folder_name(folder), source=str(folder))
    if released:
        return _released(folder, released, name=folder_name(folder), source=str(folder))
    raise CorpusError(
        f"{folder}: holds no traits",
        hint="it needs traits/*.yaml or traits.yaml (the project's format), or traits/*.json (the released)",
    )


def trait_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the trait files of a folder in the project's format, and in the released one.

    Raises:
        CorpusError: If one format has files in two places.
    """
    if (folder / "roles").is_dir() or optional(folder, "roles") is not None:
        # A folder of roles has its traits in a place of their own; its other files are the roles'.
        inside = [folder / "traits"]
    else:
        inside = [folder / "traits", folder]
    ours = [sorted(p for p in _files(place, YAML) if p.stem not in _NO_TRAITS_YAML) for place in inside]
    single = optional(folder, "traits")
    if single is not None and [single] not in ours:
        ours.append([single])
    places = [folder / "traits" / "instructions", *inside]
    if inside[-1] == folder:
        places.insert(1, folder / "instructions")
    released = [
        sorted(p for p in _files(place, (".json",)) if p.name not in _NO_TRAITS_JSON) for place in places
    ]
    return _one_place(folder, ours), _one_place(folder, released)


def holds(path: Path | None) -> tuple[bool, bool]:
    """Return whether a corpus folder or file (None: the built-in one) holds roles, and whether traits.

    Files of the released format that lie in the folder itself are told apart by the prompts of the first.

    Raises:
        CorpusError: If one format has files in two places, or the first file is malformed.
    """
    if path is None:
        return True, any(file.suffix in YAML for file in _BUILTIN.glob("*"))
    if path.is_file():
        return False, True
    folder = path
    if not (folder / "traits").exists() and (folder / "data" / "traits").is_dir():
        folder = folder / "data"
    ours, released = trait_files(folder)
    traits = bool(ours or released)
    if released and released[0].parent in (folder, folder / "instructions"):
        value = read_json(released[0])
        traits = isinstance(value, dict) and '"neg"' in json.dumps(cast("object", value))
    roles = (folder / "roles").is_dir() or optional(folder, "roles") is not None
    return roles or not traits, traits


def _files(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return [path for path in place.iterdir() if path.suffix in suffixes] if place.is_dir() else []


def _one_place(folder: Path, held: list[list[Path]]) -> list[Path]:
    found = [files for files in held if files]
    if len(found) > 1:
        first, other = (files[0].relative_to(folder) for files in found[:2])
        raise CorpusError(
            f"{folder}: has trait files in two places ({first} and {other})",
            hint="keep them in one, and other files elsewhere",
        )
    return found[0] if found else []


def _ours(folder: Path, files: list[Path], *, name: str, source: str) -> TraitSet:
    places = [] if source in ("builtin", str(files[0])) else [folder]
    if places and folder.name == "traits":
        places.append(folder.parent)
    asked = next((found for place in places if (found := optional(place, "questions")) is not None), None)
    traits = [(trait, path) for path in files for trait in _read(path)]
    questions = () if asked is None else read_questions(asked)
    return TraitSet(name, _by_name(traits), questions, source)


def _read(path: Path) -> list[TraitEntry]:
    """Read one trait file of the project's format: a list, or ``{group, traits}``."""
    value = read_yaml(path)
    group: str | None = None
    if isinstance(value, dict):
        top = cast("dict[object, object]", value)
        unknown = [key for key in top if key not in {"group", "traits"}]
        if unknown:
            raise CorpusError(
                f"{path}: unknown field {unknown[0]!r} at the top (value {short(top[unknown[0]])})",
                hint="the top of a trait file has the fields group, traits",
            )
        found = top.get("group")
        if found is not None and (not isinstance(found, str) or not found.strip()):
            raise CorpusError(
                f"{path}: field 'group' has the value {short(found)}", hint="write the group as text"
            )
        group, value = found, top.get("traits")
    traits: list[TraitEntry] = []
    for index, item in enumerate(as_list(value, path, "name, description, pairs")):
        data = validate(TraitData, item, path=path, entry=entry_label(index, item, "name"))
        traits.append(trait_of(data, group or ""))
    return traits


def trait_of(data: TraitData, group: str = "") -> TraitEntry:
    """Return a validated trait of the project's format as an entry."""
    pairs = tuple(TraitPair(pair.positive, pair.negative) for pair in data.pairs)
    questions = tuple(data.questions)
    return TraitEntry(
        data.name, data.group or group, data.description, pairs, filled(data.eval_prompt), questions
    )


class _Named(ReleasedTrait):
    """A released trait with the name that its file gives it."""

    name: Name


def _released(folder: Path, files: list[Path], *, name: str, source: str) -> TraitSet:
    described = descriptions(folder, files, TRAIT_LIST)
    traits: list[tuple[TraitEntry, Path]] = []
    for path in files:
        data = validate(ReleasedTrait, read_json(path), path=path)
        validate(_Named, data.model_dump() | {"name": path.stem}, path=path)
        entry = TraitEntry(
            path.stem,
            data.group or "",
            data.description or described.get(path.stem, ""),
            tuple(TraitPair(pair.pos, pair.neg) for pair in data.instruction),
            filled(data.eval_prompt),
            tuple(data.questions),
        )
        traits.append((entry, path))
    found = beside(folder, files, *QUESTION_FILES)
    if len(found) > 1:
        raise CorpusError(f"{folder}: has both {found[0]} and {found[1]}", hint="keep one of them")
    questions: tuple[Question, ...] = read_released_questions(found[0]) if found else ()
    return TraitSet(name, _by_name(traits), questions, source)


def _by_name(traits: list[tuple[TraitEntry, Path]]) -> tuple[TraitEntry, ...]:
    first: dict[str, Path] = {}
    for trait, path in traits:
        if trait.name in first:
            raise CorpusError(
                f"{path}: entry {trait.name!r}: the field 'name' repeats a trait of {first[trait.name]}",
                hint="rename or remove one of them",
            )
        first[trait.name] = path
    return tuple(sorted((trait for trait, _ in traits), key=lambda trait: trait.name))
