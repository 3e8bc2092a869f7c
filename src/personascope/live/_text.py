"""The text of a reply while its tokens come: characters, parts, and stop texts that are held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from personascope.chat import ReplyFormat, ReplyReader


@dataclass(slots=True)
class TokenText:
    """A response token and its text.

    Attributes:
        index: Index of the token in the response.
        text: Text that the token completes; "" inside a character of several tokens, and for special ones.
        part: "answer", "thinking", "tool_calls", or "" for a mark between them.
    """

    index: int
    text: str
    part: str


class ReplyText:
    """Reader that turns a reply's tokens into text that can be sent.

    Tokens are held back while their text may be the beginning of a stop text or of a mark between the parts
    of a reply, and while a character is incomplete.

    Attributes:
        length: Number of tokens of the reply, once it has ended.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, reply: ReplyFormat | None, stops: Sequence[str] = ()
    ) -> None:
        """Begin before the first token.

        Args:
            tokenizer: Tokenizer of the model.
            reply: Format of the reply's parts; None if it is all answer.
            stops: Stop texts of the request.
        """
        self._tokenizer = tokenizer
        self._reader: ReplyReader | None = None if reply is None else reply.reader()
        self._watched = [text for text in (*stops, *_marks(reply)) if text]
        self._ids: list[int] = []
        self._held: list[TokenText] = []
        self._start = self._read = 0
        self._sent: dict[str, str] = {"answer": "", "thinking": "", "tool_calls": "", "": ""}
        self.length = 0

    def feed(self, tokens: Sequence[int]) -> list[TokenText]:
        """Take new tokens, and return those that can be sent, in order."""
        for token in tokens:
            self._take(token)
        ready = len(self._held) - self._kept_back()
        return self._release(ready)

    def finish(self, tokens: Sequence[int], texts: dict[str, str]) -> list[TokenText]:
        """Return the rest of a reply that has ended.

        Args:
            tokens: All tokens of the response; those after them, of a stop text, are dropped.
            texts: Part -> its whole text. What was sent of it is completed, as far as it agrees.
        """
        self.length = len(tokens)
        for token in tokens[len(self._ids) :]:
            self._take(token)
        self._held = [one for one in self._held if one.index < len(tokens)]
        self._settle_parts()
        rest = {
            part: whole[len(self._sent[part]) :] if whole.startswith(self._sent[part]) else ""
            for part, whole in texts.items()
        }
        for one in self._held:
            left = rest.get(one.part, "")
            # A token in which a stop text begins keeps only the characters before it.
            one.text, rest[one.part] = left[: len(one.text)], left[len(one.text) :]
        for part, left in rest.items():
            if left and self._held and self._held[-1].part == part and self._read < len(tokens):
                # The reply ends inside a character.
                self._held[-1].text += left
            elif left:
                self._held.append(TokenText(len(tokens), left, part))
        return self._release(len(self._held))

    def close(self, count: int, stops: Sequence[str] = ()) -> list[TokenText]:
        """Return the rest of a reply whose text is that of the tokens that were fed.

        Args:
            count: Number of its tokens; those after them, such as the end of the turn, are dropped.
            stops: Stop texts, if it ended at one; the text before the first is kept.
        """
        self._held = [one for one in self._held if one.index < count]
        self._settle_parts()
        text = "".join(one.text for one in self._held)
        end = min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))
        texts, length = dict(self._sent), 0
        for one in self._held:
            texts[one.part] = texts.get(one.part, "") + one.text[: max(0, end - length)]
            length += len(one.text)
            if length > end:
                count = min(count, one.index)
        return self.finish(self._ids[:count], texts)

    def parts(self) -> dict[str, list[int]]:
        """Return the tokens of each part of a reply that has ended."""
        reader = self._reader
        if reader is None or not reader.marked:
            return {"answer": list(range(self.length))}
        found: dict[str, list[int]] = {}
        for index, part in enumerate(reader.kinds[: self.length]):
            found.setdefault(part, []).append(index)
        return found

    def _take(self, token: int) -> None:
        self._ids.append(token)
        known = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        new = ""
        if not text.endswith("\ufffd"):
            new = text[len(known) :]
            self._start, self._read = self._read, len(self._ids)
        part = "answer" if self._reader is None else self._reader.feed(token)
        self._held.append(TokenText(len(self._ids) - 1, new, part))

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _kept_back(self) -> int:
        """Return the number of the newest tokens to hold back."""
        return max(len(self._ids) - self._read, self._kept_for_marks())

    def _kept_for_marks(self) -> int:
        if not self._watched:
            return 0
        # Special tokens may be marks, and are text to a reader of marks.
        kept, text = 0, "".join(one.text or self._special(one.index) for one in self._held)
        longest = max(map(len, self._watched))
        tail = text[-longest * 2 :]
        spare = next(
            (at for at in range(len(tail)) if any(_meets(tail[at:], stop) for stop in self._watched)), None
        )
        if self._reader is not None:
            # White space before a mark belongs to the mark.
            bare = len(tail) - len(tail.rstrip())
            spare = min(spare if spare is not None else len(tail), len(tail) - bare)
            spare = None if spare == len(tail) else spare
        if spare is None:
            return 0
        need = len(tail) - spare
        for one in reversed(self._held):
            if need <= 0:
                break
            kept += 1
            need -= len(one.text or self._special(one.index))
        return kept

    def _special(self, index: int) -> str:
        if self._reader is None:
            return ""
        return str(self._tokenizer.decode([self._ids[index]], skip_special_tokens=False)).strip("\ufffd")

    def _release(self, count: int) -> list[TokenText]:
        self._settle_parts()
        ready, self._held = self._held[:count], self._held[count:]
        for one in ready:
            one.text = one.text if one.part else ""
            self._sent[one.part] = self._sent.get(one.part, "") + one.text
        return ready

    def _settle_parts(self) -> None:
        """Read the parts of held tokens again, because the newest may turn out to be a mark."""
        if self._reader is not None:
            for one in self._held:
                if one.index < len(self._reader.kinds):
                    one.part = self._reader.kinds[one.index]


def _marks(reply: ReplyFormat | None) -> list[str]:
    if reply is None:
        return []
    marks = reply.marks
    return [
        text for pair in (marks.thinking, marks.answer, marks.tool_calls) if pair for text in pair if text
    ]


def _meets(text: str, stop: str) -> bool:
    """Return whether a text begins with a stop text, or is the beginning of one."""
    return text.startswith(stop) or stop.startswith(text)
