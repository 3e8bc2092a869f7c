"""Read a source entry by entry: CSV, JSON, JSON lines, Parquet, or a hub dataset."""

# pyright: standard
# (pyarrow and datasets come without types.)

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.corpus._files import read_text
from personascope.corpus.datasets._json_stream import Broken, stream_text, stream_values
from personascope.errors import CorpusError, EvaluationError

HUB = "hub:"
_SPLIT = "train"
_PARQUET = ".parquet"


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a source.

    Attributes:
        where: Place of the entry for people: ``line 3``, ``entry 3`` or ``row 3``, counted from 1.
        value: Value of the entry; None where it cannot be read.
        problem: Reason why it cannot be read; empty where it can.
        ends: Whether reading stopped here, so that what follows is lost too.
    """

    where: str
    value: object
    problem: str = ""
    ends: bool = False


def _last(where: str, problem: str) -> Record:
    return Record(where, None, f"{problem}; what follows it is not read", ends=True)


def read_records(source: str | Path, *, columns: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the entries of a source in order; an unreadable one comes with its problem.

    Files are streamed, never read whole (CSV excepted).

    Args:
        source: Path that ends in .csv, .json, .jsonl, .ndjson or .parquet; or ``hub:owner/name``, optionally
            followed by ``/config`` and ``:split``.
        columns: Columns of a Parquet file to read, of which it must have at least one; empty for all.

    Raises:
        CorpusError: If the source is missing, of no known kind, or unreadable from its beginning.
        EvaluationError: If a hub dataset is named and ``datasets`` is not installed.
    """
    if isinstance(source, str) and source.startswith(HUB):
        yield from _hub(source)
        return
    path = Path(source)
    kind = path.suffix.lower()
    if kind not in (*_KINDS, _PARQUET):
        raise CorpusError(
            f"{path}: the ending {kind or '(none)'!r} says no known format",
            hint=f"name a file in {', '.join((*_KINDS, _PARQUET))}, or a dataset as {HUB}owner/name",
        )
    if not path.is_file():
        raise CorpusError(f"{path}: no such file", hint=f"check the path; a hub dataset begins with {HUB}")
    if kind == _PARQUET:
        yield from _parquet(path, columns)
    else:
        yield from _KINDS[kind](path)


def _csv(path: Path) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] | None = None
    while True:
        where = f"line {reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _last(where, f"not valid CSV ({error})")
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = [cell.strip() for cell in row]
            if len(set(header)) < len(header):
                raise CorpusError(
                    f"{path}: a column name occurs twice in {header}", hint="rename one of them"
                )
        elif len(row) != len(header):
            yield Record(where, None, f"has {len(row)} fields, the header has {len(header)}")
        else:
            yield Record(where, dict(zip(header, row, strict=True)))


def _jsonl(path: Path) -> Iterator[Record]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror})", hint="name a file that you may read"
        ) from error
    with file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield Record(f"line {number}", None, f"byte {error.start + 1} is not UTF-8")
                continue
            yield from _line(number, text)


def _line(number: int, text: str) -> Iterator[Record]:
    """Yield the value of a line of JSON lines; nothing for a blank one."""
    where = f"line {number}"
    if not text.strip():
        return
    try:
        yield Record(where, json.loads(text))
    except json.JSONDecodeError as error:
        yield Record(where, None, f"not valid JSON ({error.msg})")
    except ValueError as error:
        # A number with more digits than Python takes.
        yield Record(where, None, f"not valid JSON ({error})")
    except RecursionError:
        yield Record(where, None, "nested too deeply")


def _json(path: Path) -> Iterator[Record]:
    return _entries(stream_values(path))


def _entries(values: Iterator[object | Broken]) -> Iterator[Record]:
    for number, value in enumerate(values, start=1):
        where = f"entry {number}"
        if isinstance(value, Broken):
            yield _last(where, f"not valid JSON: {value}")
        else:
            yield Record(where, value)


def text_records(text: str) -> Iterator[Record]:
    """Yield the entries of a text: JSON, or JSON lines if its first line looks whole and others follow."""
    lines = text.split("\n")
    filled = [line.strip() for line in lines if line.strip()]
    if len(filled) < 2 or not filled[0].endswith(("}", "]")) or _is_json(text):
        yield from _entries(stream_text(io.StringIO(text)))
        return
    for number, line in enumerate(lines, start=1):
        yield from _line(number, line)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names: list[str] = list(file.schema_arrow.names)
            wanted = [name for name in names if name in columns] if columns else names
            if not wanted:
                raise CorpusError(
                    f"{path}: has the columns {', '.join(names)}",
                    hint=f"one of {', '.join(columns)} is needed; rename the column that holds it",
                )
            # Read few rows at a time, because a row may be a long conversation.
            for batch in file.iter_batches(batch_size=64, columns=wanted):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(f"row {number}", value)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        # ValueError covers names or texts of a damaged file that are not UTF-8.
        if number:
            yield _last(f"row {number + 1}", f"cannot be read ({error})")
        else:
            raise CorpusError(
                f"{path}: is no readable Parquet file ({error})", hint="write or fetch the file again"
            ) from error


def _hub(spec: str) -> Iterator[Record]:
    named, _, split = spec.removeprefix(HUB).partition(":")
    parts = named.split("/")
    if not 1 <= len(parts) <= 3 or not all(part.strip() for part in parts) or ":" in split:
        raise CorpusError(
            f"{spec!r} names no hub dataset",
            hint=f"write {HUB}owner/name, {HUB}owner/name:split or {HUB}owner/name/config:split",
        )
    try:
        import datasets
    except ImportError as error:
        raise EvaluationError(
            f"{spec}: the package 'datasets' is not installed",
            hint="pip install 'personascope[evals]', or name a file instead",
        ) from error
    name, config = "/".join(parts[:2]), parts[2] if len(parts) == 3 else None
    number = 0
    try:
        found: Any = datasets.load_dataset(name, config, split=split or None, streaming=True)
        if isinstance(found, dict):
            found = _split_of(spec, found)
        for row in found:
            number += 1
            yield Record(f"row {number}", dict(row))
    except CorpusError:
        raise
    except Exception as error:
        # The library and its file systems raise errors of many families; all mean the same here.
        if number:
            yield _last(f"row {number + 1}", f"cannot be read ({error})")
        else:
            raise CorpusError(
                f"{spec}: cannot be read ({type(error).__name__}: {error})",
                hint="check the name, the split and the network, or name a file instead",
            ) from error


def _split_of(spec: str, found: dict[str, Any]) -> Any:
    """Return the dataset's only split, or the one called train."""
    if len(found) == 1:
        return next(iter(found.values()))
    if _SPLIT in found:
        return found[_SPLIT]
    raise CorpusError(
        f"{spec}: has the splits {', '.join(found)}", hint=f"name one, as in {spec}:{next(iter(found))}"
    )


_KINDS = {".csv": _csv, ".json": _json, ".jsonl": _jsonl, ".ndjson": _jsonl}
