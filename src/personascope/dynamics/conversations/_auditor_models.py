"""Auditors that are models: one in this process, or one behind an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from personascope.chat import Conversation, Message
from personascope.dynamics.conversations._auditor import (
    Answer,
    AuditorFailure,
    EndConversation,
    UserMessage,
    UserTurnRequest,
)
from personascope.engines import Engine, Request, Sampling
from personascope.errors import DynamicsError, JudgeError, UsageError
from personascope.judge import (
    CallError,
    ChatModel,
    Endpoint,
    Retries,
    without_reasoning,
)

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
    said = without_reasoning(text)
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
            min_turns: Turns before which the auditor may not end a conversation.
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
    """A model behind an OpenAI-compatible chat-completions server, called as the judges' are.

    Calls that fail for a passing reason are repeated, after the wait that the server asks for; one that keeps
    failing is reported for its conversation alone.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
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
            api_key: None for the environment's ``OPENAI_API_KEY``; without either no key is sent.
            headers: Name of a header -> environment variable that holds its value.
            min_turns: Turns before which the auditor may not end a conversation.
            concurrency: Calls under way at once, at most.
            attempts: Calls for one message at most.
            timeout: Seconds for one call.
            temperature: Of the auditor's draws.

        Raises:
            UsageError: If the address is no HTTP address or has credentials in it, a header's variable is not
                set, or a number is not positive.
        """
        for what, value in {"concurrency": concurrency, "attempts": attempts, "timeout": timeout}.items():
            if value <= 0:
                raise UsageError(f"the auditor's {what} is {value}", hint="give a positive number")
        endpoint = Endpoint(base_url, who="auditor", api_key=api_key, headers=headers)
        self.name = f"openai:{model}@{endpoint.name}"
        self._model = ChatModel(
            model, endpoint, who=f"auditor {self.name}", timeout=timeout, concurrency=concurrency
        )
        self._retries = Retries(attempts)
        self._min_turns = min_turns
        self._temperature = temperature
        self._down: AuditorFailure | None = None

    def answer(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        """Return the next message of each conversation, many calls at once.

        Where the server has never answered, and does not for the first conversation, none of the others waits
        for it in vain: all get the same `AuditorFailure`.

        Raises:
            DynamicsError: If the server refuses the key or does not know the model.
        """
        # An event loop in a thread of its own: a notebook has one running in this one already.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._answers(asked)).result()

    async def _answers(self, asked: Sequence[UserTurnRequest]) -> list[Answer]:
        self._down = None
        self._model.open()
        try:
            return await asyncio.gather(*(self._one(one) for one in asked))
        except JudgeError as error:
            raise DynamicsError(error.message, hint=error.hint) from error
        finally:
            await self._model.aclose()

    async def _one(self, asked: UserTurnRequest) -> Answer:
        messages = auditor_conversation(asked, self._min_turns)
        try:
            async with self._model.turn():
                if self._down is not None:
                    return self._down
                reply = await self._retries.start()(
                    self._model.chat,
                    messages,
                    REPLY_TOKENS,
                    temperature=self._temperature,
                    more={"seed": asked.seed},
                )
        except CallError as failure:
            failed = AuditorFailure(f"{failure.kind}: {failure}"[:300])
            if failure.again and not self._model.working:
                self._down = failed
            return failed
        return read_message(reply.text, asked, self._min_turns)
