"""Parts that readers of roles and of traits share: entries of a list, files beside the entries, names."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from personascope.corpus._files import read_json, read_jsonl, read_yaml
from personascope.corpus._schema import ListedRole, QuestionData, ReleasedQuestion, validate
from personascope.corpus._types import Question
from personascope.errors import CorpusError
from personascope.store import short

YAML = (".yaml", ".yml")
"""Suffixes of YAML files."""

QUESTION_FILES = ("questions.jsonl", "extraction_questions.jsonl")
"""Names of the released files of questions."""

TRAIT_LIST = "trait_list.json"
"""Name of the released list of traits."""


def beside(folder: Path, files: list[Path], *names: str) -> list[Path]:
    """Return files of these names beside the role files, in the folder, or in those between."""
    places = [files[0].parent, *files[0].parent.parents]
    near = places[: places.index(folder) + 1] if folder in places else [folder]
    # In the authors' repository the questions lie above the folder of roles.
    if folder.name in ("roles", "traits", "instructions"):
        near += [folder.parent, *([folder.parent.parent] if folder.name == "instructions" else [])]
    return [place / name for place in near for name in names if (place / name).is_file()]


def descriptions(folder: Path, files: list[Path], listed_in: str) -> dict[str, str]:
    """Return the one-line descriptions of a list of names beside the files; none without such a file.

    Args:
        folder: Folder of the corpus.
        files: Files of the entries.
        listed_in: Name of the list, such as ``role_list.json``.

    Raises:
        CorpusError: If the list is malformed.
    """
    found = beside(folder, files, listed_in)
    if not found:
        return {}
    path, value = found[0], read_json(found[0])
    if isinstance(value, list):
        entries = cast("list[object]", value)
        if all(isinstance(entry, str) for entry in entries):
            return {}
        pairs = [
            validate(ListedRole, entry, path=path, entry=f"entry {n}") for n, entry in enumerate(entries, 1)
        ]
        return {pair.name: pair.description for pair in pairs}
    if isinstance(value, dict):
        listed = cast("dict[str, object]", value)
        wrong = next((name for name, text in listed.items() if not isinstance(text, str)), None)
        if wrong is not None:
            raise CorpusError(
                f"{path}: the description of {wrong!r} is {short(listed[wrong])}",
                hint='write {"name": "one line that says who or what it is", ...}',
            )
        return cast("dict[str, str]", listed)
    raise CorpusError(f"{path}: holds {short(value)}", hint='write {"name": "one line", ...}')


def as_list(value: object, path: Path, fields: str) -> list[object]:
    """Return a list of entries from a file.

    Raises:
        CorpusError: If the value is no list, or an empty one.
    """
    entries = cast("list[object]", value) if isinstance(value, list) else []
    if not entries:
        raise CorpusError(
            f"{path}: holds {short(cast('object', value))}, not a list of entries",
            hint=f"write a list of entries with {fields}",
        )
    return entries


def entry_label(index: int, value: object, key: str) -> str:
    """Return the label of an entry in messages: its number, and its name if it has one."""
    name = cast("dict[object, object]", value).get(key) if isinstance(value, dict) else None
    return f"entry {index + 1}" + (f" ({short(name)})" if name is not None else "")


def filled(text: str | None) -> str | None:
    """Return None for an empty judge prompt, so that the general rubric applies."""
    return text if text and text.strip() else None


def unique_ids(questions: list[Question], path: Path) -> tuple[Question, ...]:
    """Return the questions of a file.

    Raises:
        CorpusError: If an id occurs twice.
    """
    seen: set[str] = set()
    for index, question in enumerate(questions):
        if question.id in seen:
            raise CorpusError(
                f"{path}: entry {index + 1}: the field 'id' repeats {question.id!r} of an earlier entry",
                hint="give each question an id of its own",
            )
        seen.add(question.id)
    return tuple(questions)


def folder_name(folder: Path) -> str:
    """Return a corpus's name made from the folder's name, with invalid characters replaced."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in folder.resolve().name)
    return kept.lstrip("_.-") or "corpus"


def optional(folder: Path, stem: str) -> Path | None:
    """Return the YAML file of a folder with this stem, or None.

    Raises:
        CorpusError: If there are two, with different suffixes.
    """
    found = [folder / f"{stem}{suffix}" for suffix in YAML if (folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise CorpusError(f"{folder}: has both {found[0].name} and {found[1].name}", hint="keep one of them")
    return found[0] if found else None


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read questions in the project's format.

    Raises:
        CorpusError: If the file is malformed, or two questions share an id.
    """
    items = as_list(read_yaml(path), path, "id, area, text")
    data = [
        validate(QuestionData, item, path=path, entry=entry_label(index, item, "id"))
        for index, item in enumerate(items)
    ]
    return unique_ids([Question(q.id, q.area, q.text, q.kind or "") for q in data], path)


def read_released_questions(path: Path) -> tuple[Question, ...]:
    """Read questions in the released format; without ids they are numbered.

    Raises:
        CorpusError: If the file is malformed or empty, or two questions share an id.
    """
    found: list[Question] = []
    for line, item in read_jsonl(path):
        data = validate(ReleasedQuestion, item, path=path, entry=f"line {line}")
        id = len(found) if data.id is None else data.id
        found.append(Question(str(id), data.area or "", data.question, data.kind or ""))
    if not found:
        raise CorpusError(f"{path}: holds no questions", hint='add lines {"question": ..., "id": ...}')
    return unique_ids(found, path)
