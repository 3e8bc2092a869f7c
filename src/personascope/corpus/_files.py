"""Read YAML, JSON and JSON lines strictly: one clear error for each way a file can be wrong."""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from personascope.errors import CorpusError

if TYPE_CHECKING:
    from yaml import SafeLoader as _BaseLoader
else:
    # libyaml's parser reads the built-in corpus about ten times as fast.
    _BaseLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _RepeatedKeyError(Exception):
    """A mapping has one key twice; plain loaders silently keep the last one."""

    def __init__(self, key: str, line: int | None = None) -> None:
        """Store the key, and its 1-based line where the format tells it."""
        super().__init__(key)
        self.key = key
        self.line = line


class _StrictLoader(_BaseLoader):
    """Safe loader that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping, or raise if a key occurs twice in it."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen:
                raise _RepeatedKeyError(key, key_node.start_mark.line + 1)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, or raise if a key occurs twice in it."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


def _repeated(path: Path, error: _RepeatedKeyError) -> CorpusError:
    where = f"{path}, line {error.line}" if error.line else str(path)
    return CorpusError(
        f"{where}: the field {error.key!r} is given twice",
        hint=f"keep one {error.key!r} and remove the other",
    )


def read_text(path: Path) -> str:
    """Return a file's text, without a byte order mark.

    Raises:
        CorpusError: If the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise CorpusError(
            f"{path}: no such file", hint="add the file, or name another corpus folder"
        ) from None
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror})", hint="make it a file that you may read"
        ) from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}: byte {error.start} is not UTF-8 ({error.reason})", hint="save the file as UTF-8"
        ) from error


def read_yaml(path: Path) -> object:
    """Return a YAML file's value.

    Raises:
        CorpusError: If the file cannot be read, is not YAML, or repeats a key.
    """
    text = read_text(path)
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except _RepeatedKeyError as error:
        raise _repeated(path, error) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise CorpusError(
            f"{where}: not valid YAML ({problem})",
            hint="check indentation and quotes; a block scalar (>-) keeps colons and quotes harmless",
        ) from error


def _parse_json(text: str, path: Path, line: int | None = None) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        error.line = line
        raise _repeated(path, error) from None
    except (json.JSONDecodeError, RecursionError) as error:
        at = line if line is not None else getattr(error, "lineno", 1)
        reason = getattr(error, "msg", "nested too deeply")
        raise CorpusError(
            f"{path}, line {at}: not valid JSON ({reason})", hint="correct the JSON there"
        ) from error


def read_json(path: Path) -> object:
    """Return a JSON file's value.

    Raises:
        CorpusError: If the file cannot be read, is not JSON, or repeats a key.
    """
    return _parse_json(read_text(path), path)


def read_jsonl(path: Path) -> list[tuple[int, object]]:
    """Return the values of a JSON-lines file with their 1-based line numbers; blank lines are skipped.

    Raises:
        CorpusError: If the file cannot be read, or a line is not JSON or repeats a key.
    """
    # Not splitlines(): JSON strings may hold U+2028 and its like, which splitlines() breaks at.
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, _parse_json(line, path, number)) for number, line in lines if line.strip()]
