"""Replies of a model, and a chat session that keeps its conversation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from personascope.api.notebook._chats import message_dicts
from personascope.chat import Conversation, Message
from personascope.engines import Completion
from personascope.text import escape_controls, html_card, shorten


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reply:
    """A reply of a model; ``str`` of it is its text.

    Attributes:
        prompt: Conversation that was replied to; empty for a continued text.
        completion: Completion of the engine, with token ids, cap statistics and parts.
        position: Mean position of the reply's tokens on the axis of the model's map (0 is the mean role, 1
            the default Assistant); NaN without a map.
        plan: Name of the plan under which it was generated; "" for none.
    """

    prompt: Conversation
    completion: Completion
    position: float = math.nan
    plan: str = ""

    @property
    def text(self) -> str:
        """Text of the answer."""
        return self.completion.text

    @property
    def reasoning(self) -> str:
        """Reasoning before the answer; "" if there is none."""
        return self.completion.reasoning

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation with the reply at its end, as dicts, to go on with or to project."""
        return message_dicts((*self.prompt, Message("assistant", self.text, self.reasoning)))

    @property
    def capped(self) -> float | None:
        """Share of the plan's tokens on which a cap fired; None without a plan."""
        stats = self.completion.cap_stats
        return None if stats is None else stats.firing_share

    def _facts(self) -> str:
        done = self.completion
        parts = [f"{len(done.token_ids)} tokens", f"ended by {done.finish_reason}"]
        parts += [] if math.isnan(self.position) else [f"position {self.position:+.2f}"]
        parts += [f"under {self.plan}"] if self.plan else []
        return ", ".join(parts)

    def __str__(self) -> str:
        """Return the text of the answer."""
        return self.text

    def __repr__(self) -> str:
        """Return the text, cut, and how it ended."""
        return escape_controls(f"Reply({shorten(self.text, 80)}; {self._facts()})")

    def _repr_html_(self) -> str:
        """Return a card for a notebook."""
        return html_card("Reply", text=self.text, notes=(self._facts(),))


Answer = Callable[[Conversation], Reply]


@dataclass(slots=True, eq=False, repr=False)
class ChatSession:
    """A conversation with a model that is kept and goes on; `Model.conversation` begins one.

    Attributes:
        model_id: Name of the model.
        answer: Function that replies to a conversation.
        conversation: Messages so far.
        replies: Replies so far.
    """

    model_id: str
    answer: Answer
    conversation: Conversation = ()
    replies: list[Reply] = field(default_factory=list[Reply])

    def say(self, text: str) -> Reply:
        """Say something to the model and return its reply; both are kept.

        Raises:
            PersonascopeError: If the model cannot reply; nothing is kept then.
        """
        asked = (*self.conversation, Message("user", text))
        reply = self.answer(asked)
        self.conversation = (*asked, Message("assistant", reply.text, reply.reasoning))
        self.replies.append(reply)
        return reply

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation so far, as dicts."""
        return message_dicts(self.conversation)

    def __repr__(self) -> str:
        """Return the model and the number of messages."""
        return escape_controls(f"ChatSession(with {self.model_id}: {len(self.conversation)} messages)")

    def _repr_html_(self) -> str:
        """Return a card for a notebook."""
        rows = [{"role": one.role, "text": one.content} for one in self.conversation]
        return html_card(f"Conversation with {self.model_id}", rows=rows, most=100)
