"""Tokenise a rendered conversation so that no message can contain a special token.

The tokens that a template marks its turns with are recognised in the template's own pieces only. To
do so in one pass, with every merge, normaliser and white-space rule of the tokenizer in force, the
tokenizer is copied with each such token renamed to a random string, and the template's pieces are
rewritten with those names. The text of such a token inside a message is then plain text.
"""

from __future__ import annotations

import json
import re
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from personascope.errors import ChatError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Range = tuple[int, int]
"""Start and end (exclusive), in characters or tokens."""


class ContentTokenizer:
    """Tokenizer that treats the text of messages and the text of the template differently.

    Attributes:
        control: Text -> id of the tokens that a message cannot contain: the special tokens, and any
            other added token that the template writes and that is not white space alone.
        control_ids: Ids of these tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, literals: Iterable[str] = ()) -> None:
        """Copy the tokenizer.

        Args:
            tokenizer: Fast tokenizer, which is not changed.
            literals: Pieces of text that the template writes.

        Raises:
            ChatError: If the tokenizer is not a fast one, or cannot be copied.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            raise ChatError(
                f"{type(tokenizer).__name__} has no fast tokenizer behind it, so turns cannot be located",
                hint="load the model with its tokenizer.json",
            )
        written = "\0".join(literals)
        state: dict[str, Any] = json.loads(backend.to_str())
        added: list[dict[str, Any]] = state["added_tokens"]
        self.control: dict[str, int] = {
            token["content"]: token["id"]
            for token in added
            if token["special"] or (token["content"].strip() and token["content"] in written)
        }
        self.control_ids = frozenset(self.control.values())
        nonce = secrets.token_hex(8)
        self._names = {text: f"\ue000{nonce}x{index}\ue001" for text, index in self.control.items()}
        self._pattern = re.compile("|".join(map(re.escape, sorted(self.control, key=len, reverse=True))))
        for token in added:
            token["content"] = self._names.get(token["content"], token["content"])
        expected: dict[str, int] = {token["content"]: token["id"] for token in added}
        _rename_vocabulary(state["model"], self._names)
        # Nothing may be added to the template's text, and a post-processor may shorten offsets.
        state.update(post_processor=None, truncation=None, padding=None)
        try:
            self._twin: Tokenizer = Tokenizer.from_str(json.dumps(state))
        except Exception as error:  # the Rust side raises nothing narrower
            raise ChatError(
                f"the tokenizer cannot be copied without its special tokens: {error}",
                hint="report the model's name; pass token ids meanwhile",
            ) from error
        moved = [name for name, index in expected.items() if self._twin.token_to_id(name) != index]
        if moved:
            raise ChatError(
                f"{len(moved)} special tokens change their id when the tokenizer is copied",
                hint="report the model's name; pass token ids meanwhile",
            )

    def first_control(self, literal: str, passed_over: Sequence[str] = ()) -> int | None:
        """Return the id of the first control token in a piece of the template, or None.

        Args:
            literal: Piece of the template's text.
            passed_over: Control tokens to ignore.
        """
        found = self._pattern.finditer(literal) if self.control else iter(())
        return next(
            (self.control[match.group()] for match in found if match.group() not in passed_over), None
        )

    def encode(
        self, text: str, contents: Sequence[Range], marks: Sequence[Range]
    ) -> tuple[list[int], list[Range]]:
        """Tokenise a rendering and locate pieces of it.

        Args:
            text: Rendered text.
            contents: Character ranges of message text, ascending and disjoint; the rest belongs to the
                template.
            marks: Character ranges to locate, in any order.

        Returns:
            The ids, and for each mark the range of tokens that hold at least one character of it. A
            token that holds characters of two marks belongs to the earlier one. A control token that
            includes white space of a message belongs to the template. A mark without characters has an
            empty range at its place.

        Raises:
            ChatError: If the text is not valid Unicode.
        """
        pieces: list[str] = []
        starts: list[tuple[int, int, bool]] = []  # start in text, start in the twin's text, is content
        position = length = 0
        for start, end in [*contents, (len(text), len(text))]:
            for begin, stop, is_content in ((position, start, False), (start, end, True)):
                piece = text[begin:stop]
                starts.append((begin, length, is_content))
                pieces.append(piece if is_content else self._rewrite(piece))
                length += len(pieces[-1])
            position = end
        try:
            encoding = self._twin.encode("".join(pieces), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as error:
            raise ChatError(
                "a message holds half of a surrogate pair, which is no character",
                hint="decode the text with errors='replace' where it was read",
            ) from error

        # Each of these attributes builds a new list on every access.
        ids, offsets = encoding.ids, encoding.offsets

        def in_twin(at: int) -> int:
            index = bisect_right(starts, at, key=lambda start: start[0]) - 1
            # A place at a content's end belongs to that content, not to the template's next piece.
            while index and starts[index][0] == at and starts[index - 1][2]:
                index -= 1
            begin, twin, is_content = starts[index]
            return twin + (at - begin if is_content else len(self._rewrite(text[begin:at])))

        spans: list[Range] = [(0, 0)] * len(marks)
        free = 0
        for index in sorted(range(len(marks)), key=lambda i: marks[i]):
            start, end = (in_twin(place) for place in marks[index])
            spans[index] = self._locate(ids, offsets, start, end, free)
            free = max(free, spans[index][1])
        return ids, spans

    def _rewrite(self, literal: str) -> str:
        if not self.control:
            return literal
        return self._pattern.sub(lambda match: self._names[match.group()], literal)

    def _locate(self, ids: Sequence[int], offsets: Sequence[Range], start: int, end: int, free: int) -> Range:
        """Return the tokens from ``free`` on that hold a character of [start, end)."""
        control = self.control_ids
        first = max(free, bisect_left(offsets, start, key=lambda offset: offset[0]))
        if start == end:
            return first, first
        while first > free and offsets[first - 1][1] > start:
            first -= 1
        # A control token with attached white space that reaches in from outside is left out.
        while (
            first < len(ids)
            and offsets[first][0] < start
            and (ids[first] in control or offsets[first][1] <= start)
        ):
            first += 1
        stop = first
        while stop < len(ids) and offsets[stop][0] < end:
            stop += 1
        while stop > first and offsets[stop - 1][1] > end and ids[stop - 1] in control:
            stop -= 1
        return first, stop


def _rename_vocabulary(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename control tokens in the model's vocabulary, where some tokenizers look up whole words."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(piece, piece): index for piece, index in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
