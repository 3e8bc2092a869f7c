"""Read the values of a large JSON file one after another, without holding the whole file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from personascope.errors import CorpusError

_CHUNK = 1 << 20
# Longest rest of a cut literal, number or escape at the end, which reads as an error of another kind.
_TAIL = 16


class Broken(Exception):  # noqa: N818 - it ends a file's reading and never reaches a user
    """The text is not JSON from here on."""


class _Window:
    """Part of a file that is being decoded."""

    def __init__(self, file: TextIO) -> None:
        """Start at the file's beginning, with nothing read."""
        self._file = file
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._at = 0

    def _more(self) -> bool:
        """Read on, at least as much as is held, so that a long value costs no more than twice its length.

        At the file's end nothing changes, so that positions in the text stay valid.
        """
        held = self._text[self._at :]
        read = self._file.read(max(_CHUNK, len(held)))
        if read:
            self._text, self._at = held + read, 0
        return bool(read)

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def step(self) -> None:
        """Skip the character that `peek` returned."""
        self._at += 1

    def value(self) -> object:
        """Decode the value that begins here.

        Raises:
            Broken: If there is none, or it does not end.
        """
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise Broken("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _TAIL
                if not cut:
                    raise Broken(error.msg) from None
                if not self._more():
                    raise Broken(
                        f"the file ends in the middle of it ({error.msg.removesuffix(' starting at')})"
                    ) from None
                continue
            except ValueError as error:
                # A number with more digits than Python takes.
                raise Broken(str(error)) from None
            # A number near the end may continue in the unread part, after its point or exponent.
            if end >= len(self._text) - _TAIL and self._text[end - 1] not in '}]"' and self._more():
                continue
            self._at = end
            return value


def stream_values(path: Path) -> Iterator[object | Broken]:
    """Yield the entries of a JSON list, or the values of a file that holds one after another.

    If the text breaks, the error is the last item, because what follows cannot be told apart. A byte that is
    not UTF-8 becomes a lone surrogate, so that only its own entry is lost.

    Raises:
        CorpusError: If the file cannot be opened.
    """
    try:
        file = path.open(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror})", hint="name a file that you may read"
        ) from error
    with file:
        yield from stream_text(file)


def stream_text(file: TextIO) -> Iterator[object | Broken]:
    """Yield the values of an open text, as `stream_values` does of a file."""
    window = _Window(file)
    try:
        listed = window.peek() == "["
        if not listed:
            while window.peek():
                yield window.value()
            return
        window.step()
        if window.peek() == "]":
            window.step()
        else:
            closed = False
            while not closed:
                yield window.value()
                mark = window.peek()
                if mark not in {",", "]"}:
                    raise Broken("a comma is missing after it" if mark else "the file ends after it")
                closed = mark == "]"
                window.step()
                if not closed:
                    window.peek()
        if window.peek():
            raise Broken("there is text after the end of the list")
    except Broken as error:
        yield error
