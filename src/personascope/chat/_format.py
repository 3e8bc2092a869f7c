"""Conversations in the format of a model's own chat template."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from personascope.chat._layout import Layout, LayoutFinder
from personascope.chat._messages import Conversation, Message
from personascope.chat._options import ChatOptions, Thinking, template_options
from personascope.chat._parts import ReplyMarks, find_marks
from personascope.chat._reasoning import split_reasoning
from personascope.chat._reply import ReplyFormat
from personascope.chat._spans import Rendered, TurnSpan
from personascope.chat._template import ChatTemplate
from personascope.chat._tokens import ContentTokenizer
from personascope.chat._transcript import TranscriptFormat
from personascope.errors import ChatError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "Hello there"
_BLANK_LINE = "\n\n"

_Place = tuple[int, int, int]
"""Index of a message that the template is given, start and end in its content."""


class ChatFormat:
    """Render conversations with a model's chat template, whose behaviour is probed, not looked up by model.

    - Thinking is switched off wherever the template has a switch for it, unless ``options`` switch it on.
    - A reply may have parts: thinking, the answer, tool calls. Their marks are learnt from the template
      (`marks`). Reasoning inside the content of an assistant message is treated as reasoning.
    - A template without a system role (one that refuses a system message, or drops it) gets the
      system text in front of the first user turn, separated by a blank line.
    - A system message that is empty or white space counts as no system message. The template may then
      write its own system prompt, which is the model's default.
    - A message cannot contain a token that the template marks turns with: in a message, the text of
      such a token is tokenised as plain text. Turns that a template marks with plain text only cannot
      be protected in that way.
    - A template that writes today's date gets ``options.today``, or else the day on which the format was
      made.

    Raises:
        ChatError: On construction, if there is no chat template, it cannot render a user message, or the
            options do not fit it. On the first rendering, if the tokenizer is not a fast one.
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model_name: str = "",
        options: ChatOptions | None = None,
    ) -> None:
        """Read a tokenizer's chat template.

        Args:
            tokenizer: A fast tokenizer with a chat template.
            model_name: Name of the model in errors; by default the tokenizer's.
            options: Thinking, template variables and date; the defaults if not given.
        """
        self.tokenizer = tokenizer
        self.options = options or ChatOptions()
        self.model_name = model_name or str(getattr(tokenizer, "name_or_path", "") or "the model")
        if not tokenizer.chat_template:
            raise ChatError(
                f"{self.model_name} has no chat template",
                hint="use an instruct model, pass token ids, or take ChatFormat.transcript(tokenizer)",
            )
        try:
            source = tokenizer.get_chat_template()
        except ValueError as error:
            raise ChatError(
                f"{self.model_name} has several chat templates and none is the default: {error}",
                hint="set tokenizer.chat_template to the one to use",
            ) from error
        special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        self._template = ChatTemplate(
            source, special, today=self.options.today or date.today(), name=self.model_name
        )
        self._values: dict[str, Any] = {}
        self._values, self._switches = template_options(
            self._template, self.options, self._probe_with, self.model_name
        )
        if self.options.thinking and not (self._switches or self.marks.thinks):
            raise ChatError(
                f"{self.model_name} does not think before its answer, as far as its chat template tells",
                hint="leave thinking off, or name the template's variable (--template-arg)",
            )
        self._finders = {
            prompt: LayoutFinder(functools.partial(self._render_text, add_generation_prompt=prompt))
            for prompt in (False, True)
        }
        self._text_of([Message("user", _PROBE)])

    def with_options(self, options: ChatOptions) -> ChatFormat:
        """Return this format with other options; itself if they are the same.

        Raises:
            ChatError: If the template has no such variable, or thinking is requested and the model has none.
        """
        if options == self.options:
            return self
        return ChatFormat(self.tokenizer, model_name=self.model_name, options=options)

    @staticmethod
    def transcript(tokenizer: PreTrainedTokenizerBase, *, model_name: str = "") -> TranscriptFormat:
        """Return the plain dialogue format, for base models."""
        return TranscriptFormat(tokenizer, model_name=model_name)

    @functools.cached_property
    def supports_system(self) -> bool:
        """Whether the template always writes a system message; if not, the first user turn gets its text.

        Some templates write the system message before a reply and drop it if the conversation ends with one.
        """
        system = "\ue000system\ue001"
        turns = [Message("system", system), Message("user", _PROBE), Message("assistant", _PROBE)]
        try:
            return all(system in self._text_of(turns[:length]) for length in (2, 3))
        except ChatError:
            return False

    @property
    def has_thinking_switch(self) -> bool:
        """Whether the template has a switch for thinking."""
        return bool(self._switches)

    @functools.cached_property
    def marks(self) -> ReplyMarks:
        """Marks that delimit the parts of a reply."""
        added = [str(token) for token in self.tokenizer.added_tokens_decoder.values()]
        switches = [name for name in self._switches if isinstance(self._values.get(name), bool)]
        off, on = ({**self._values, **dict.fromkeys(switches, value)} for value in (False, True))
        tails = {
            name: self._probe_with(values).rpartition(_PROBE)[2]
            for name, values in (("off", off), ("on", on))
        }

        def find(values: Mapping[str, Any]) -> ReplyMarks:
            def render(messages: Sequence[Mapping[str, Any]], prompt: bool) -> str:
                return self._template.render(messages, values, add_generation_prompt=prompt)

            return find_marks(render, self._template.source, added, **tails)

        marks = find(self._values)
        if not marks.thinks and switches:
            # Some templates write the marks of thinking only while thinking is switched on.
            other = find(on)
            marks = replace(other, tool_calls=marks.tool_calls) if other.thinks else marks
        return marks

    @property
    def thinking(self) -> Thinking:
        """Whether the model thinks before its answer, according to its template."""
        if self._switches:
            return "on" if self.options.thinking else "off"
        return "always" if self.marks.thinks else "none"

    @property
    def today(self) -> date | None:
        """Date that the template writes; None if it writes none."""
        return self._template.today if self._template.writes_date else None

    @property
    def template_options(self) -> dict[str, Any]:
        """Variables that the template is rendered with, besides the messages; thinking is off by default."""
        return dict(self._values)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the template, the special tokens and the options it is rendered with.

        The date is left out, so that the digest does not change from day to day.
        """
        state = {
            "format": "chat",
            "template": self._template.source,
            "special_tokens": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "options": self._values,
            "supports_system": self.supports_system,
        }
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def stop_token_ids(self) -> frozenset[int]:
        """Tokens that end an assistant turn: eos, and the first control token the template adds after it.

        A token that also separates the parts of one reply is left out if the template writes another one
        after the last reply.
        """
        eos = cast("int | None", self.tokenizer.eos_token_id)
        inside, last = (self._turn_end(literal) for literal in self._turn_ends())
        inner = {self._tokens.control.get(text) for text in self.marks.inner}
        ids = {eos, last} if inside in inner and last not in (None, inside) else {eos, last, inside}
        return frozenset(index for index in ids if index is not None)

    def render(self, conversation: Conversation, *, add_generation_prompt: bool = True) -> list[int]:
        """Return the token ids of a conversation, by default with the generation prompt.

        If no message holds the text of a special token, they equal those of Transformers'
        ``apply_chat_template``.

        Raises:
            ChatError: If the template refuses the conversation, it is empty, or its turns cannot be
                located exactly.
        """
        rendered = self.render_with_spans(conversation, add_generation_prompt=add_generation_prompt)
        return list(rendered.token_ids)

    def render_with_spans(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> Rendered:
        """Return the token ids of a conversation and the tokens of each message's content.

        A span holds every token with at least one character of the content, even if a line break of the
        template was merged into it, and never a special token. White space that the template strips is not
        in it. Reasoning has spans of its own, which are empty if the template leaves it out. Reasoning
        inside a content is first separated from it.

        Raises:
            ChatError: If the template refuses the conversation, it is empty, or its turns cannot be
                located exactly.
        """
        conversation = tuple(self._apart(message) for message in conversation)
        sent, sources = self._fold(conversation)
        layout = self._finders[add_generation_prompt].find(sent)
        marks = [_placed(layout, place) for place in sources]
        reasoned = [index for index, message in enumerate(conversation) if message.reasoning.strip()]
        marks += [layout.thinking[place[0]] for index in reasoned if (place := sources[index]) is not None]
        contents = sorted(span for span in (*layout.ranges, *layout.thinking) if span[0] < span[1])
        ids, spans = self._tokens.encode(layout.text, contents, marks)
        turns = [
            TurnSpan(index, message.role, *span)
            for index, (message, span) in enumerate(zip(conversation, spans, strict=False))
        ]
        thoughts = [
            TurnSpan(index, "assistant", *span)
            for index, span in zip(reasoned, spans[len(sources) :], strict=True)
        ]
        reply = None
        if self.marks:
            end = max((span[1] for span in layout.ranges), default=0)
            reply = ReplyFormat.of(self.tokenizer, self.marks, layout.text[end:])
        return Rendered(tuple(ids), tuple(turns), layout.text, tuple(thoughts), reply)

    def _apart(self, message: Message) -> Message:
        """Return a message with the reasoning in its content moved to ``reasoning``."""
        if message.role != "assistant" or message.reasoning.strip() or not self.marks.thinks:
            return message
        pair = self.marks.thinking
        reasoning, answer = split_reasoning(message.content, () if pair is None else (pair,))
        return message if answer == message.content else replace(message, content=answer, reasoning=reasoning)

    def _fold(self, conversation: Conversation) -> tuple[list[Message], list[_Place | None]]:
        """Return the messages to render, and the place of each original content in them.

        The place is None for a system message that is left out.
        """
        sent: list[Message] = []
        sources: list[_Place | None] = []
        pending: str | None = None
        for index, message in enumerate(conversation):
            if message.reasoning.strip() and message.role != "assistant":
                raise ChatError(
                    f"message {index} ({message.role}) has reasoning, which no template writes there",
                    hint="only messages of the assistant have reasoning; put the text into the content",
                )
            if message.role == "system" and not message.content.strip():
                sources.append(None)
            elif message.role == "system" and not self.supports_system:
                if sent or pending is not None:
                    raise ChatError(
                        f"message {index} is a second or late system message, and the chat template of "
                        f"{self.model_name} has no system role",
                        hint="put all of the system text into the first message",
                    )
                pending = message.content
                sources.append((0, 0, len(pending)))
            elif pending is not None:
                if message.role != "user":
                    raise ChatError(
                        f"the chat template of {self.model_name} has no system role, and no user turn "
                        f"follows the system message but one of {message.role}",
                        hint="let a user message follow the system message",
                    )
                opening = pending + _BLANK_LINE if message.content else pending
                whole = opening + message.content
                sent.append(Message("user", whole))
                sources.append((0, len(opening), len(whole)))
                pending = None
            else:
                sources.append((len(sent), 0, len(message.content)))
                sent.append(message if message.reasoning.strip() else Message(message.role, message.content))
        if pending is not None or not sent:
            what = "no message to render" if pending is None else "a system message and no user turn"
            raise ChatError(f"the conversation has {what}", hint="add a user message")
        return sent, sources

    @functools.cached_property
    def _tokens(self) -> ContentTokenizer:
        literals = [piece for pieces in self._probe_literals() for piece in pieces]
        tokens = ContentTokenizer(self.tokenizer, [*literals, *self.marks.texts])
        probe = [Message("user", _PROBE), Message("assistant", _PROBE), Message("user", _PROBE)]
        layout = self._finders[True].find(probe)
        own, _ = tokens.encode(layout.text, layout.ranges, layout.ranges)
        theirs: Any = self.tokenizer(layout.text, add_special_tokens=False).input_ids
        if own != list(theirs):
            raise ChatError(
                f"the tokenizer of {self.model_name} does something that is not in its tokenizer.json",
                hint="report the model's name; pass token ids meanwhile",
            )
        return tokens

    def _probe_literals(self) -> list[tuple[str, ...]]:
        """Return what the template writes around two exchanges, with and without a generation prompt."""
        roles = ("user", "assistant", "user", "assistant")
        blank = (False,) * 4
        if self.supports_system:
            roles, blank = ("system", *roles), (False, *blank)
        return [
            self._finders[False].skeleton(roles, blank).literals,
            self._finders[True].skeleton(roles[:-1], blank[:-1]).literals,
        ]

    def _turn_end(self, literal: str) -> int | None:
        """Return the token that ends a turn, found in the text that the template writes after the turn."""
        # Closing marks of parts that are still open come before the end of the turn.
        passed_over = (*self.marks.texts, *self.marks.inner)
        found = self._tokens.first_control(literal, passed_over)
        return self._tokens.first_control(literal, self.marks.texts) if found is None else found

    def _turn_ends(self) -> list[str]:
        """Return what the template writes after an assistant turn in mid-conversation, and after the last."""
        skeleton = self._finders[False].skeleton(("user", "assistant", "user", "assistant"), (False,) * 4)
        return [skeleton.literals[position + 1] for position, i in enumerate(skeleton.order) if i in (1, 3)]

    def _text_of(self, messages: Sequence[Message]) -> str:
        return self._render_text(messages, add_generation_prompt=False)

    def _render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        return self._template.render(
            [self._as_dict(message) for message in messages],
            self._values,
            add_generation_prompt=add_generation_prompt,
        )

    def _as_dict(self, message: Message) -> dict[str, str]:
        given = {"role": message.role, "content": message.content}
        if message.reasoning and self.marks.field:
            given[self.marks.field] = message.reasoning
        elif message.reasoning and self.marks.thinking is not None:
            # A template without a field for reasoning expects it in the content, between its tags.
            opening, closing = self.marks.thinking
            given["content"] = f"{opening}\n{message.reasoning}\n{closing}\n\n{message.content}"
        return given

    def _probe_with(self, values: Mapping[str, Any]) -> str:
        return self._template.render(
            [{"role": "user", "content": _PROBE}], values, add_generation_prompt=True
        )


def _placed(layout: Layout, place: _Place | None) -> tuple[int, int]:
    """Return the character range of a part of a message's content in the rendering."""
    if place is None:
        return 0, 0
    index, start, end = place
    (kept_start, kept_end), origin = layout.kept[index], layout.ranges[index][0]
    low, high = max(start, kept_start), min(end, kept_end)
    # A part that was stripped entirely gets an empty range at the nearest place that was kept.
    low = min(low, kept_end)
    return origin + low - kept_start, origin + max(low, high) - kept_start
