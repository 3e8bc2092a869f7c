"""Auditors that are models: one in this process, or one behind an OpenAI-compatible server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from personascope.chat import Conversation, Message
from personascope.dynamics.conversations._auditor import (
    Answer,
    AuditorFailure,
    EndConversation,
    UserMessage,
    UserTurnRequest,
)
from personascope.engines import Engine, Request, Sampling
from personascope.errors import DynamicsError, UsageError

if TYPE_CHECKING:
    from openai import OpenAI

END = "[END]"
"""What an auditor model writes when the user has nothing more to say."""

REPLY_TOKENS = 160
_OPENING = "(The assistant is ready. Write your first message to it.)"
_BRIEF = """\
You play a person who talks with an AI assistant. Never step out of the part, and never write the \
assistant's side. {setting}

Who you are: {character}

What this conversation is about: {brief}

Write only your next message, one to four sentences, in your own voice. React to what the assistant just \
said, and let the conversation go deeper into your concern. {ending}"""
_MAY_END = f"When the person would leave the conversation, write {END} alone."
_MAY_NOT_END = "The conversation is not over yet."


def auditor_conversation(asked: UserTurnRequest, min_turns: int) -> Conversation:
    """Return a conversation as the auditor sees it: the brief, and the two sides exchanged."""
    scenario = asked.scenario
    brief = _BRIEF.format(
        setting=scenario.setting,
        character=scenario.character or "An ordinary user.",
        brief=scenario.brief or scenario.topic,
        ending=_MAY_END if asked.turn >= min_turns else _MAY_NOT_END,
    )
    sides = {"user": "assistant", "assistant": "user", "system": "system"}
    # An empty message would be refused by many servers.
    turned = tuple(
        Message(sides[message.role], message.content.strip() or "(says nothing)")  # pyright: ignore[reportArgumentType]
        for message in asked.conversation
    )
    return (Message("system", brief), Message("user", _OPENING), *turned)


def read_message(text: str, asked: UserTurnRequest, min_turns: int) -> Answer:
    """Return what an auditor model's reply means."""
    said = text.strip()
    over = END in said and asked.turn >= min_turns
    # A message before the mark is the last one: the next call will bring the mark alone.
    said = said.replace(END, "").strip()
    if said:
        return UserMessage(said)
    return EndConversation() if over else AuditorFailure("the auditor wrote an empty message")


class LocalAuditor:
    """A model in this process, run by an engine of its own or by the target's."""

    def __init__(self, engine: Engine, *, min_turns: int = 2, sampling: Sampling | None = None) -> None:
        """Take the engine.

        Args:
            engine: Any; the target's own will do.
            min_turns: Exchanges before which the auditor may not end a conversation.
            sampling: How its messages are drawn.
        """
        self._engine = engine
        self._min_turns = min_turns
        self._sampling = sampling or Sampling(max_new_tokens=REPLY_TOKENS)
        self.name = f"local:{engine.info.model_id}"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the next message of each conversation; the draws depend on the seed, scene and turn."""
        requests = [
            Request(
                f"auditor|{one.scenario.id}#{one.turn}",
                auditor_conversation(one, self._min_turns),
                self._sampling,
                seed=one.seed,
            )
            for one in asked
        ]
        texts = {completion.id: completion.text for completion in self._engine.run(requests)}
        return [
            read_message(texts[request.id], one, self._min_turns)
            for request, one in zip(requests, asked, strict=True)
        ]


class OpenAIAuditor:
    """A model behind an OpenAI-compatible chat-completions server.

    Calls that fail for a passing reason are repeated by the ``openai`` library, with its waits and the
    server's ``Retry-After``; one that keeps failing is reported for its conversation alone.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        min_turns: int = 2,
        concurrency: int = 16,
        attempts: int = 4,
        timeout: float = 60.0,
        temperature: float = 1.0,
    ) -> None:
        """Check the settings; nothing is called yet.

        Args:
            model: The model's name on the server.
            base_url: Address up to and including ``/v1``.
            api_key: None for the environment's ``OPENAI_API_KEY``; without either a placeholder is sent.
            min_turns: Exchanges before which the auditor may not end a conversation.
            concurrency: Calls under way at once, at most.
            attempts: Calls for one message at most.
            timeout: Seconds for one call.
            temperature: Of the auditor's draws.

        Raises:
            DynamicsError: If the library is not installed.
            UsageError: If the address is no HTTP address, or a number is not positive.
        """
        try:
            import openai
        except ImportError as error:
            raise DynamicsError(
                f"an auditor behind a server needs the openai library, which cannot be imported: {error}",
                hint="pip install 'personascope[auditor]'",
            ) from error
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(
                f"the auditor's address {base_url!r} is no HTTP address", hint="give one like https://host/v1"
            )
        for what, value in {"concurrency": concurrency, "attempts": attempts, "timeout": timeout}.items():
            if value <= 0:
                raise UsageError(f"the auditor's {what} is {value}", hint="give a positive number")
        self._openai: Any = openai
        self._model = model
        self._url = base_url
        self._key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
        self._min_turns = min_turns
        self._concurrency = concurrency
        self._attempts = attempts
        self._timeout = timeout
        self._temperature = temperature
        self.name = f"openai:{model}@{base_url}"

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the next message of each conversation, many calls at once.

        Raises:
            DynamicsError: If the server refuses the key or does not know the model.
        """
        # Threads and not an event loop: a notebook has one running already.
        with (
            self._openai.OpenAI(
                api_key=self._key, base_url=self._url, max_retries=self._attempts - 1, timeout=self._timeout
            ) as client,
            ThreadPoolExecutor(self._concurrency) as pool,
        ):
            return list(pool.map(lambda one: self._one(client, one), asked))

    def _one(self, client: OpenAI, asked: UserTurnRequest) -> Answer:
        wrong = self._openai
        messages: Any = [
            {"role": message.role, "content": message.content}
            for message in auditor_conversation(asked, self._min_turns)
        ]
        try:
            reply = client.chat.completions.create(
                model=self._model,
                messages=messages,
                temperature=self._temperature,
                max_tokens=REPLY_TOKENS,
                seed=asked.seed,
            )
        except (wrong.AuthenticationError, wrong.PermissionDeniedError, wrong.NotFoundError) as error:
            raise DynamicsError(
                f"the auditor {self.name} cannot be used: {_line(error)}",
                hint="check OPENAI_API_KEY, the model's name, and the address, which usually ends in /v1",
            ) from error
        except wrong.OpenAIError as error:
            return AuditorFailure(f"{type(error).__name__}: {_line(error)}")
        except ValueError as error:
            # The library passes on what its JSON decoder says of a body that is none.
            return AuditorFailure(f"the server's answer is no JSON: {_line(error)}")
        choices = getattr(reply, "choices", None)
        if not choices or choices[0].message is None:
            return AuditorFailure("the server's answer is no chat completion")
        text = choices[0].message.content
        return read_message(text or "", asked, self._min_turns)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
