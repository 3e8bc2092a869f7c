"""Conversations in the format of a model's own chat template."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import jinja2
import jinja2.meta

from personascope.chat._layout import LayoutFinder
from personascope.chat._messages import Conversation, Message
from personascope.chat._spans import Rendered, TurnSpan
from personascope.chat._tokens import ContentTokenizer
from personascope.chat._transcript import TranscriptFormat
from personascope.errors import ChatError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_THINKING = re.compile(r"(enable_|use_)?(thinking|reasoning)")
_PROBE = "Hello there"
_BLANK_LINE = "\n\n"


class ChatFormat:
    """A model's chat template, read for what it does and never for whose it is.

    - Thinking is switched off wherever the template has a switch for it.
    - A template without a system role (one that refuses a system message, or drops it) gets the
      system text in front of the first user turn, a blank line between.
    - A system message that is empty or white space counts as no system message. A template that then
      writes a system prompt of its own does so: that is the model's default.
    - A message cannot write a token that the template marks turns with: in a message, the text of
      such a token is tokenised as plain text. Turns that a template marks with plain text only cannot
      be protected in that way.
    - A template that writes today's date writes it.

    Raises:
        ChatError: On construction, if there is no chat template, it cannot render a user message, or
            the tokenizer is not a fast one.
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, model_name: str = "") -> None:
        """Read a tokenizer's chat template.

        Args:
            tokenizer: A fast tokenizer with a chat template.
            model_name: Named in errors.
        """
        self.tokenizer = tokenizer
        self.model_name = model_name or str(getattr(tokenizer, "name_or_path", "") or "the model")
        if not tokenizer.chat_template:
            raise ChatError(
                f"{self.model_name} has no chat template",
                hint="use an instruct model, pass token ids, or take ChatFormat.transcript(tokenizer)",
            )
        try:
            self._template = tokenizer.get_chat_template()
        except ValueError as error:
            raise ChatError(
                f"{self.model_name} has several chat templates and none is the default: {error}",
                hint="set tokenizer.chat_template to the one to use",
            ) from error
        self._options: dict[str, Any] = dict.fromkeys(_thinking_switches(self._template), False)
        self._finders = {
            prompt: LayoutFinder(functools.partial(self._render_text, add_generation_prompt=prompt))
            for prompt in (False, True)
        }
        self._text_of([Message("user", _PROBE)])

    @staticmethod
    def transcript(tokenizer: PreTrainedTokenizerBase, *, model_name: str = "") -> TranscriptFormat:
        """Return the plain dialogue format, for base models."""
        return TranscriptFormat(tokenizer, model_name=model_name)

    @functools.cached_property
    def supports_system(self) -> bool:
        """Whether the template always writes a system message; if not, the first user turn takes it.

        Some templates write it before a reply and drop it once the conversation ends with one.
        """
        system = "\ue000system\ue001"
        turns = [Message("system", system), Message("user", _PROBE), Message("assistant", _PROBE)]
        try:
            return all(system in self._text_of(turns[:length]) for length in (2, 3))
        except ChatError:
            return False

    @property
    def has_thinking_switch(self) -> bool:
        """Whether the template has a switch for thinking (it is set to off)."""
        return bool(self._options)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the template, the special tokens and the options it is rendered with."""
        state = {
            "format": "chat",
            "template": self._template,
            "special_tokens": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "options": self._options,
            "supports_system": self.supports_system,
        }
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    @functools.cached_property
    def stop_token_ids(self) -> frozenset[int]:
        """Tokens that end an assistant turn: the first one that the template writes after it, and eos."""
        eos = cast("int | None", self.tokenizer.eos_token_id)
        ids = {eos, *(self._tokens.first_control(literal) for literal in self._turn_ends())}
        return frozenset(index for index in ids if index is not None)

    def render(self, conversation: Conversation, *, add_generation_prompt: bool = True) -> list[int]:
        """Return the token ids of a conversation, ready for the assistant to continue.

        Where no message holds the text of a special token they are those of Transformers'
        ``apply_chat_template``.

        Raises:
            ChatError: If the template refuses the conversation, or it is empty.
        """
        rendered = self.render_with_spans(conversation, add_generation_prompt=add_generation_prompt)
        return list(rendered.token_ids)

    def render_with_spans(
        self, conversation: Conversation, *, add_generation_prompt: bool = False
    ) -> Rendered:
        """Return the token ids of a conversation and the tokens of each message's content.

        A span holds every token with at least one character of the content, so also one that a
        line break of the template was merged into; it never holds a special token. White space that
        the template strips is not in it, and reasoning that it drops from an earlier turn neither.

        Raises:
            ChatError: If the template refuses the conversation, it is empty, or its turns cannot be
                located exactly.
        """
        sent, sources = self._fold(conversation)
        layout = self._finders[add_generation_prompt].find(sent)
        marks: list[tuple[int, int]] = []
        for place in sources:
            if place is None:
                marks.append((0, 0))
                continue
            index, start, end = place
            (kept_start, kept_end), origin = layout.kept[index], layout.ranges[index][0]
            low, high = max(start, kept_start), min(end, kept_end)
            # What was stripped away altogether is empty, at the nearest place that was kept.
            low = min(low, kept_end)
            marks.append((origin + low - kept_start, origin + max(low, high) - kept_start))
        contents = sorted(span for span in layout.ranges if span[0] < span[1])
        ids, spans = self._tokens.encode(layout.text, contents, marks)
        turns = [
            TurnSpan(index, message.role, *span)
            for index, (message, span) in enumerate(zip(conversation, spans, strict=True))
        ]
        return Rendered(tuple(ids), tuple(turns), layout.text)

    def _fold(self, conversation: Conversation) -> tuple[list[Message], list[tuple[int, int, int] | None]]:
        """Return the messages that the template is given, and where each original one went.

        That is (index of the message given, start and end of the content in its content), or None
        for a system message that is left out.
        """
        sent: list[Message] = []
        sources: list[tuple[int, int, int] | None] = []
        pending: str | None = None
        for index, message in enumerate(conversation):
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
                sent.append(message)
        if pending is not None or not sent:
            what = "no message to render" if pending is None else "a system message and no user turn"
            raise ChatError(f"the conversation has {what}", hint="add a user message")
        return sent, sources

    @functools.cached_property
    def _tokens(self) -> ContentTokenizer:
        literals = [piece for pieces in self._probe_literals() for piece in pieces]
        tokens = ContentTokenizer(self.tokenizer, literals)
        probe = [Message("user", _PROBE), Message("assistant", _PROBE), Message("user", _PROBE)]
        layout = self._finders[True].find(probe)
        own, _ = tokens.encode(layout.text, layout.ranges, layout.ranges)
        theirs = self.tokenizer.apply_chat_template(
            _as_dicts(probe), tokenize=True, return_dict=False, add_generation_prompt=True, **self._options
        )
        if own != list(cast("list[int]", theirs)):
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

    def _turn_ends(self) -> list[str]:
        """Return what the template writes after an assistant turn in the middle, and after the last."""
        skeleton = self._finders[False].skeleton(("user", "assistant", "user", "assistant"), (False,) * 4)
        return [skeleton.literals[position + 1] for position, i in enumerate(skeleton.order) if i in (1, 3)]

    def _text_of(self, messages: Sequence[Message]) -> str:
        return self._render_text(messages, add_generation_prompt=False)

    def _render_text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                _as_dicts(messages),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self._options,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message.role for message in messages)
            raise ChatError(
                f"the chat template of {self.model_name} refuses a conversation of {roles}: {error}",
                hint="let user and assistant messages alternate, starting with the user",
            ) from error
        return cast("str", text)


def _as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _thinking_switches(template: str) -> list[str]:
    """Return the variables of a template that switch thinking on and off."""
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        names = jinja2.meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError:
        # Transformers' own tags are unknown here; a name that is no variable is ignored when rendering.
        names = set(re.findall(r"\w+", template))
    return sorted(name for name in names if _THINKING.fullmatch(name))
