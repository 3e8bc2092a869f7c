"""Detect the format of a corpus folder, and read it."""

from __future__ import annotations

from functools import lru_cache
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
from personascope.corpus._schema import (
    CorpusData,
    DefaultData,
    Name,
    ReleasedDefault,
    ReleasedRole,
    RoleData,
    validate,
)
from personascope.corpus._types import DEFAULT_NAME, Corpus, Question, RoleEntry
from personascope.errors import CorpusError
from personascope.store import short

_BUILTIN = Path(__file__).parent / "data"
_STEMS = ("corpus", "roles", "traits", "questions", DEFAULT_NAME)
ROLE_LIST = "role_list.json"
_NO_ROLES = {f"{DEFAULT_NAME}.json", ROLE_LIST, TRAIT_LIST}
"""JSON files beside the role files that hold no role."""


def load_corpus(path: str | Path | None = None) -> Corpus:
    """Load a corpus.

    Args:
        path: None for the built-in corpus. Or a folder in the project's format (``roles/*.yaml`` or
            ``roles.yaml``, ``questions.yaml``, and optionally ``default.yaml`` and ``corpus.yaml``). Or a
            folder in the released format (``roles/*.json``, or the role files in the folder itself, and
            optionally ``questions.jsonl`` and ``default.json``). Or the authors' repository or its ``data``
            folder (``roles/instructions/*.json``, ``extraction_questions.jsonl``, and the descriptions of
            ``role_list.json``).

    Returns:
        Corpus with roles sorted by name and questions in file order, so that the same texts give the same
        requests in every format. Without a default of its own it has the built-in default prompts.

    Raises:
        CorpusError: If the folder is in neither format or in both, or a file is malformed. The message names
            the file, the entry, the field, its value, and a remedy.
    """
    if path is None:
        return _load_builtin()
    folder = Path(path)
    if not folder.is_dir():
        raise CorpusError(
            f"{folder}: no such corpus folder", hint="name a folder, or leave it out for the built-in"
        )
    if not (folder / "roles").exists() and (folder / "data" / "roles").is_dir():
        folder = folder / "data"
    ours = _role_files(folder, YAML)
    released = _released_files(folder)
    if ours and released:
        raise CorpusError(
            f"{folder}: has roles in both formats ({ours[0].name} and {released[0].name})",
            hint="keep the YAML files or the JSON files, in a folder each",
        )
    if ours:
        return _load_ours(folder, ours)
    if released:
        return _load_released(folder, released)
    raise CorpusError(
        f"{folder}: holds no roles",
        hint="it needs roles/*.yaml or roles.yaml (the project's format), or roles/*.json (the released one)",
    )


@lru_cache(maxsize=1)
def _load_builtin() -> Corpus:
    return _load_ours(_BUILTIN, _role_files(_BUILTIN, YAML), source="builtin")


def _builtin_default() -> tuple[str, ...]:
    return _read_default(_BUILTIN / "default.yaml")


def _role_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the role files of the project's format: a single file, or those of a folder, not both."""
    inside = folder / "roles"
    many = sorted(p for p in inside.iterdir() if p.suffix in suffixes) if inside.is_dir() else []
    single = [folder / f"roles{suffix}" for suffix in suffixes if (folder / f"roles{suffix}").is_file()]
    if len(single) + bool(many) > 1:
        raise CorpusError(
            f"{folder}: has both {single[0].name} and {(many or single)[-1].relative_to(folder)}",
            hint="keep the roles in one place",
        )
    return single or many


def _released_files(folder: Path) -> list[Path]:
    """Return the released role files without the default's, from the one place that has any.

    That is ``roles/instructions`` (the authors' repository), ``instructions``, ``roles``, or the folder
    itself.
    """
    places = [folder / "roles" / "instructions", folder / "instructions", folder / "roles", folder]
    held = [sorted(p for p in place.glob("*.json") if p.name not in _NO_ROLES) for place in places]
    found = [files for files in held if files]
    if len(found) > 1:
        first, other = (files[0].relative_to(folder) for files in found[:2])
        raise CorpusError(
            f"{folder}: has role files in two places ({first} and {other})",
            hint="keep them in one, and other JSON files elsewhere",
        )
    return found[0] if found else []


def _refuse_strays(folder: Path) -> None:
    """Refuse YAML files that nothing reads: a misspelt default.yaml would silently count as none."""
    known = ", ".join(f"{stem}.yaml" for stem in _STEMS)
    for path in sorted(folder.iterdir()):
        if path.suffix in YAML and path.stem not in _STEMS:
            raise CorpusError(
                f"{path}: is no part of a corpus",
                hint=f"rename it to one of {known}, or move it elsewhere",
            )


def _read_roles(path: Path) -> list[RoleEntry]:
    """Read one role file of the project's format: a list, or ``{group, roles}``."""
    value = read_yaml(path)
    group: str | None = None
    if isinstance(value, dict):
        top = cast("dict[object, object]", value)
        unknown = [key for key in top if key not in {"group", "roles"}]
        if unknown:
            raise CorpusError(
                f"{path}: unknown field {unknown[0]!r} at the top (value {short(top[unknown[0]])})",
                hint="the top of a role file has the fields group, roles",
            )
        found = top.get("group")
        if found is not None and (not isinstance(found, str) or not found.strip()):
            raise CorpusError(
                f"{path}: field 'group' has the value {short(found)}", hint="write the group as text"
            )
        group, value = found, top.get("roles")
    roles: list[RoleEntry] = []
    for index, item in enumerate(as_list(value, path, "name, description, prompts")):
        label = entry_label(index, item, "name")
        data = validate(RoleData, item, path=path, entry=label)
        own = data.group or group
        if own is None:
            raise CorpusError(
                f"{path}: {label}: the field 'group' is missing",
                hint="add 'group' to the entry, or once at the top of the file beside 'roles'",
            )
        roles.append(
            RoleEntry(data.name, own, data.description, tuple(data.prompts), filled(data.eval_prompt))
        )
    return roles


def _read_default(path: Path) -> tuple[str, ...]:
    return tuple(validate(DefaultData, read_yaml(path), path=path).prompts)


def _by_name(roles: list[tuple[RoleEntry, Path]]) -> tuple[RoleEntry, ...]:
    first: dict[str, Path] = {}
    for role, path in roles:
        if role.name in first:
            raise CorpusError(
                f"{path}: entry {role.name!r}: the field 'name' repeats a role of {first[role.name]}",
                hint="rename or remove one of them",
            )
        if role.name == DEFAULT_NAME:
            raise CorpusError(
                f"{path}: entry {role.name!r}: the field 'name' is that of the condition without a role",
                hint="put its prompts in default.yaml, or give the role another name",
            )
        first[role.name] = path
    return tuple(sorted((role for role, _ in roles), key=lambda role: role.name))


def _load_ours(folder: Path, files: list[Path], *, source: str | None = None) -> Corpus:
    _refuse_strays(folder)
    head_path = optional(folder, "corpus")
    head = (
        validate(CorpusData, read_yaml(head_path), path=head_path)
        if head_path
        else CorpusData(name=folder_name(folder))
    )
    roles = _by_name([(role, path) for path in files for role in _read_roles(path)])
    path = optional(folder, "questions")
    if path is None:
        raise CorpusError(
            f"{folder / 'questions.yaml'}: no such file", hint="add it: a list of entries with id, area, text"
        )
    default_path = optional(folder, DEFAULT_NAME)
    return Corpus(
        name=head.name,
        roles=roles,
        questions=read_questions(path),
        default_prompts=_read_default(default_path) if default_path else _builtin_default(),
        source=source or str(folder),
        version=head.version,
        licence=head.licence,
    )


class _Named(ReleasedRole):
    """A released role with the name that its file gives it."""

    name: Name


def _load_released(folder: Path, files: list[Path]) -> Corpus:
    asked: list[tuple[Path, list[str]]] = []
    roles: list[tuple[RoleEntry, Path]] = []
    described = descriptions(folder, files, ROLE_LIST)
    for path in files:
        data = validate(ReleasedRole, read_json(path), path=path)
        validate(_Named, data.model_dump() | {"name": path.stem}, path=path)
        prompts = tuple(item.pos for item in data.instruction)
        description = data.description or described.get(path.stem, "")
        entry = RoleEntry(path.stem, data.group or "", description, prompts, filled(data.eval_prompt))
        roles.append((entry, path))
        asked.append((path, data.questions))
    defaults = beside(folder, files, f"{DEFAULT_NAME}.json")
    if len(defaults) > 1:
        raise CorpusError(f"{folder}: has both {defaults[0]} and {defaults[1]}", hint="keep one default.json")
    if defaults:
        default = validate(ReleasedDefault, read_json(defaults[0]), path=defaults[0])
        default_prompts = tuple(item.pos for item in default.instruction)
        asked.append((defaults[0], default.questions))
    else:
        default_prompts = _builtin_default()
    return Corpus(
        name=folder_name(folder),
        roles=_by_name(roles),
        questions=_released_questions(folder, files, asked),
        default_prompts=default_prompts,
        source=str(folder),
    )


def _released_questions(
    folder: Path, files: list[Path], asked: list[tuple[Path, list[str]]]
) -> tuple[Question, ...]:
    """Return the questions of the questions file, or else the list that all role files share."""
    places = beside(folder, files, *QUESTION_FILES)
    if len(places) > 1:
        raise CorpusError(f"{folder}: has both {places[0]} and {places[1]}", hint="keep one of them")
    path = places[0] if places else folder / QUESTION_FILES[0]
    if places:
        return read_released_questions(path)
    own = [(role_path, questions) for role_path, questions in asked if questions]
    if not own:
        raise CorpusError(
            f"{path}: no such file, and no role file has questions",
            hint="add questions.jsonl, or 'questions' to the role files",
        )
    first_path, first = own[0]
    for role_path, questions in own:
        # The design compares roles that answer the same questions; with lists that differ, a role's own
        # questions would look like its persona.
        if questions != first:
            raise CorpusError(
                f"{role_path}: field 'questions' ({len(questions)} of them) differs from that of "
                f"{first_path.name} ({len(first)})",
                hint="add a questions.jsonl with the questions that all roles are to be asked",
            )
    return tuple(Question(str(index), "", text) for index, text in enumerate(first))
