"""Read conversations that were held elsewhere, entry by entry: a file, a folder, or standard input."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from personascope.corpus.datasets import Record, read_records, text_records
from personascope.errors import CorpusError, UsageError
from personascope.interop._entries import (
    Transcript,
    Unreadable,
    clean,
    is_about,
    is_conversation,
    is_message,
    read_entries,
)
from personascope.interop._inspect_logs import is_inspect_log, read_inspect_log
from personascope.interop._texts import read_text

STDIN = "-"
_LINES, _TEXTS = (".jsonl", ".ndjson"), (".txt", ".text", ".md", "")
_KNOWN = (".json", *_LINES, ".parquet", ".eval", *_TEXTS)
_ABOUT = re.compile(
    r"(?:README|LICEN[CS]E|NOTICE|CITATION|CHANGELOG|CONTRIBUTING|AUTHORS|COPYING|CODE_OF_CONDUCT|SECURITY"
    r"|VERSION|MAKEFILE|TODO|INSTALL|DATA(?:SET)?_?CARD|DATASET_INFOS?)(?:[.\-_]|$)"
    # What file managers and writers leave behind.
    r"|(?:Thumbs\.db|desktop\.ini|_SUCCESS)$|~\$|.*\.(?:lock|crc|tmp)$",
    re.IGNORECASE,
)
_LEFT_BEHIND = "__MACOSX"
_ALONE = "a message by itself, in a file of conversations"


@dataclass(frozen=True, slots=True)
class TranscriptSource:
    """Source of transcripts, which can be read several times.

    Attributes:
        name: Name that the user gave.
        files: Name of each file in ids -> its path, in the order of reading; empty for standard input.
        text: Text from standard input; None for files.
    """

    name: str
    files: Mapping[str, Path]
    text: str | None = None

    @classmethod
    def open(cls, source: Path | str) -> TranscriptSource:
        """Find the files of a source, or read standard input to its end.

        Args:
            source: File, folder, or "-". A folder stands for all files below it, sorted by name, without
                hidden ones and those about the folder, such as README.md.

        Raises:
            UsageError: If there is no such file, or no file in the folder.
        """
        if str(source) == STDIN:
            stream = getattr(sys.stdin, "buffer", None)
            text = (
                sys.stdin.read() if stream is None else stream.read().decode("utf-8-sig", "surrogateescape")
            )
            return cls("stdin", {}, text)
        path = Path(source)
        if path.is_file():
            return cls(str(path), {path.name: path})
        if not path.is_dir():
            raise UsageError(
                f"{path} cannot be read: no such file or folder",
                hint="name a file of conversations, a folder of such files, or - for standard input",
            )
        files = {
            file.relative_to(path).as_posix(): file
            for file in path.rglob("*")
            if file.is_file()
            and not _ABOUT.match(file.name)
            and not any(part.startswith(".") or part == _LEFT_BEHIND for part in file.relative_to(path).parts)
        }
        if not files:
            raise UsageError(f"{path} holds no file", hint="name a folder with files of conversations")
        return cls(str(path), dict(sorted(files.items())))

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the names and contents of all files.

        Raises:
            UsageError: If a file cannot be read.
        """
        found = hashlib.sha256()
        if self.text is not None:
            found.update(self.text.encode("utf-8", "surrogateescape"))
        for name, path in self.files.items():
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be read: {error.strerror}", hint="make it a file that you may read"
                ) from error
            found.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
        return found.hexdigest()

    def read(self, *, limit: int | None = None) -> Iterator[Transcript | Unreadable]:
        """Yield every entry, in order, one at a time.

        Args:
            limit: Maximum number of transcripts; None for all.

        Raises:
            InteropError: If there is an Inspect log and inspect_ai is not installed.
            UsageError: If the limit is below 1.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"limit is {limit}", hint="give a number from 1, or none for all conversations")
        read = 0
        for entry in self._entries():
            yield entry
            read += isinstance(entry, Transcript)
            if read == limit:
                return

    def _entries(self) -> Iterator[Transcript | Unreadable]:
        if self.text is not None:
            yield from _of_text(self.text, self.name)
        listed = len(self.files) > 1
        for name, path in self.files.items():
            try:
                yield from _of_file(path, name, listed=listed)
            except (CorpusError, OSError) as error:
                why = error.message if isinstance(error, CorpusError) else str(error)
                yield Unreadable(clean(name), clean(why))


def read_transcripts(source: Path | str, *, limit: int | None = None) -> Iterator[Transcript | Unreadable]:
    """Read conversations in any common format; yield an entry that is none with its reason.

    A .json, .jsonl, .ndjson or .parquet file holds one conversation or a list of them: a list of messages, or
    a mapping with one under a field that some program writes (``corpus/datasets/_message_fields.py``;
    docs/project.md lists the programs). Logs of Inspect (.eval or .json) give a transcript per sample. Texts
    have ``User:`` and ``Assistant:``.

    Chat templates have system, user and assistant turns only. Tool messages, tool calls, images and answers
    before the first question are therefore left out, reasoning is kept apart, and messages of one speaker in
    a row are joined. ``Transcript.repairs`` names each such change.

    Args:
        source: File, folder of files, or "-" for standard input.
        limit: Maximum number of transcripts; None for all.

    Raises:
        UsageError: If there is no such source, or the limit is below 1.
        InteropError: If there is an Inspect log and inspect_ai is not installed.
    """
    return TranscriptSource.open(source).read(limit=limit)


def _of_file(path: Path, name: str, *, listed: bool) -> Iterator[Transcript | Unreadable]:
    kind = path.suffix.lower()
    if kind == ".eval":
        yield from read_inspect_log(path, name)
    elif kind in _LINES or kind == ".parquet":
        yield from _of_records(read_records(path), name)
    elif listed and kind not in _KNOWN:
        yield Unreadable(clean(name), f"the ending {kind!r} says no known format ({', '.join(_KNOWN[:-1])})")
    elif kind != ".json" or not _is_json(path):
        # A text has no entries that could be read one by one, so it is read whole.
        yield from _of_text(path.read_bytes().decode("utf-8-sig", "surrogateescape"), name)
    else:
        records = read_records(path)
        first = next(records, None)
        if first is not None and is_inspect_log(first.value):
            yield from read_inspect_log(path, name, first.value)
        else:
            yield from _of_records(records if first is None else chain([first], records), name)


def _is_json(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        while head := file.read(4096):
            if head.strip():
                return head.lstrip()[0] in "[{"
    return False


def _of_text(text: str, name: str) -> Iterator[Transcript | Unreadable]:
    if text.lstrip()[:1] in ("[", "{"):
        yield from _of_records(text_records(text), name)
    else:
        yield from read_text(text, file=name)


def _of_records(records: Iterator[Record], name: str) -> Iterator[Transcript | Unreadable]:
    """Read a file as one conversation if it begins with a message, otherwise as a list of conversations."""
    records = (record for record in records if not is_about(record.value))
    head = list(islice(records, 2))
    if not head:
        yield Unreadable(clean(name), "is empty: holds no list of messages")
    elif not is_message(head[0].value):
        for record in chain(head, records):
            yield from _of_record(record, name, alone=len(head) == 1)
    else:
        yield from _of_messages(chain(head, records), name)


def _of_messages(records: Iterator[Record], name: str) -> Iterator[Transcript | Unreadable]:
    """Read a file that begins with a message: one conversation, unless an entry is a conversation."""
    held: list[Record] = []
    for record in records:
        if is_conversation(record.value):
            for message in held:
                yield Unreadable(clean(f"{name}: {message.where}"), message.problem or _ALONE)
            for rest in chain([record], records):
                yield from _of_record(rest, name, alone=False)
            return
        held.append(record)
    broken = next((record for record in held if record.problem), None)
    if broken is not None:
        yield Unreadable(clean(f"{name}: {broken.where}"), clean(broken.problem))
    else:
        yield from read_entries([record.value for record in held], file=name)


def _of_record(record: Record, name: str, *, alone: bool) -> Iterator[Transcript | Unreadable]:
    if record.problem:
        yield Unreadable(clean(f"{name}: {record.where}"), clean(record.problem))
    elif is_message(record.value):
        yield Unreadable(clean(f"{name}: {record.where}"), _ALONE)
    else:
        # "line 3": the number is the last word.
        number = "" if alone else record.where.rpartition(" ")[2]
        yield from read_entries(record.value, file=name, where="" if alone else record.where, number=number)
