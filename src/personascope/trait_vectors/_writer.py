"""Let a model write a trait: its description and pairs of opposite prompts, from the trait's name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from personascope.chat import Conversation, Message
from personascope.corpus import (
    PAIRS_PER_TRAIT,
    TraitData,
    TraitEntry,
    TraitSet,
    check_traits,
    trait_of,
    validate,
)
from personascope.engines import Engine, Request, Sampling
from personascope.errors import CorpusError, JudgeError, UsageError
from personascope.judge import CallError, ChatModel, Endpoint, Retries, body_of, objects_in, split_address

WRITERS = "self, local:MODEL, openai:MODEL@BASE_URL"
ATTEMPTS = 3
"""Number of times that the writer is asked, the later times with what was wrong."""

REPLY_TOKENS = 2000
_SYSTEM = "You write precise texts for experiments with language models. You reply with JSON alone."
_BRIEF = """Write material for the character trait "{name}".

A language model gets one of two system prompts: one that makes it show the trait, one that makes it show \
the opposite. Then it answers an ordinary question, and the two answers are compared.

Reply with one JSON object and nothing else, of this form:
{{"description": "one line of at most 20 words that says what a response with the trait is like",
 "pairs": [{{"positive": "system prompt for the trait", "negative": "system prompt for its opposite"}}, ...]}}

Give exactly {count} pairs. Each prompt has one to three sentences and addresses the model ("You are ...", \
"Answer ..."). The two prompts of a pair have the same form and about the same length, and differ in the \
trait alone. The {count} pairs differ from each other in how they put it. Name no AI and no topic."""


def check_writer(spec: str, headers: Mapping[str, str] | None = None) -> None:
    """Check a writer's specification before a model is loaded.

    Args:
        spec: ``self`` for the mapped model, ``local:MODEL``, or ``openai:MODEL@BASE_URL``.
        headers: Header name -> environment variable that holds its value, for a server.

    Raises:
        UsageError: If the specification names no writer, or its server's address cannot be used.
    """
    if not re.fullmatch(r"self|local:.+|openai:.+?@https?://.+", spec.strip()):
        raise UsageError(f"there is no writer {spec!r}", hint=f"give one of: {WRITERS}")
    kind, _, rest = spec.strip().partition(":")
    if kind == "openai":
        Endpoint(split_address(rest)[1], who="writer", headers=headers)


def check_trait_name(name: str) -> str:
    """Return a trait's name in slug form, as in "passive_aggressive" for "passive-aggressive".

    Raises:
        UsageError: If nothing of a name is left.
    """
    slug = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    if not slug or len(slug) > 60:
        raise UsageError(f"{name!r} cannot be the name of a trait", hint='give one such as "sycophantic"')
    return slug


def check_set_name(name: str) -> str:
    """Return the name of a set of traits, which is also that of its folder.

    Raises:
        UsageError: If it is no valid file name.
    """
    if not re.fullmatch(r"\w[\w.-]{0,100}", name):
        raise UsageError(f"{name!r} cannot be the name of a set of traits", hint="use letters and digits")
    return name


def write_new_trait(name: str, ask: Callable[[Conversation, int], str]) -> TraitEntry:
    """Let a model write a trait, and validate it; ask again with what was wrong.

    Args:
        name: Name of the trait in slug form.
        ask: Function that returns the model's reply to a conversation, given the number of the attempt.

    Raises:
        CorpusError: If no reply holds a valid trait; the message says what was wrong with the last.
    """
    brief = _BRIEF.format(name=name.replace("_", " "), count=PAIRS_PER_TRAIT)
    conversation: Conversation = (Message("system", _SYSTEM), Message("user", brief))
    problem = ""
    for attempt in range(ATTEMPTS):
        reply = ask(conversation, attempt)
        try:
            return read_trait(reply, name)
        except CorpusError as error:
            problem = error.message
        said = Message("assistant", reply.strip()[:4000] or "(nothing)")
        again = Message("user", f"That cannot be used: {problem}. Reply with the whole JSON object again.")
        conversation = (*conversation[:2], said, again)
    raise CorpusError(
        f"the writer gave no usable trait in {ATTEMPTS} replies: {problem}",
        hint="take a larger model by --writer, or write the file yourself (docs/traits.md has the format)",
    )


def read_trait(reply: str, name: str) -> TraitEntry:
    """Return the trait in a writer's reply.

    Raises:
        CorpusError: If the reply holds no JSON object of the right form, or the trait is not in order.
    """
    objects = [entry for entry in objects_in(body_of(reply)) or [] if "pairs" in entry]
    if not objects:
        raise CorpusError("the reply holds no JSON object with pairs")
    entry = {key: value for key, value in objects[0].items() if key in ("description", "pairs")}
    data = validate(TraitData, {**entry, "name": name}, path=Path("reply"))
    trait = trait_of(data)
    wrong = [
        f"{finding.where}: {finding.message}"
        for finding in check_traits(TraitSet(name, (trait,), (), "reply"))
        if finding.level == "error"
    ]
    if wrong:
        raise CorpusError("; ".join(wrong))
    return trait


def ask_engine(engine: Engine, name: str, *, seed: int = 0) -> Callable[[Conversation, int], str]:
    """Return a function that asks an engine's model."""

    def ask(conversation: Conversation, attempt: int) -> str:
        sampling = Sampling(max_new_tokens=REPLY_TOKENS)
        request = Request(f"trait writer|{name}/{attempt}", conversation, sampling, seed=seed)
        return next(iter(engine.run([request]))).text

    return ask


def ask_server(
    spec: str, headers: Mapping[str, str] | None = None, *, timeout: float = 120.0
) -> Callable[[Conversation, int], str]:
    """Return a function that asks a model behind a server.

    Args:
        spec: ``openai:MODEL@BASE_URL``.
        headers: Header name -> environment variable that holds its value.
        timeout: Seconds for a whole call.

    Raises:
        UsageError: If the address cannot be used.
    """
    model, address = split_address(spec.strip().partition(":")[2])
    endpoint = Endpoint(address, who="writer", headers=headers)
    who = f"writer openai:{model}@{endpoint.name}"

    async def call(conversation: Conversation) -> str:
        chat = ChatModel(model, endpoint, who=who, timeout=timeout, concurrency=1)
        chat.open()
        try:
            async with chat.turn():
                reply = await Retries(4).start()(chat.chat, conversation, REPLY_TOKENS, temperature=0.7)
            return reply.text
        except CallError as failure:
            raise JudgeError(
                f"the {who} gave no reply: {failure.kind}: {failure}",
                hint="look at the server",
            ) from failure
        finally:
            await chat.aclose()

    def ask(conversation: Conversation, attempt: int) -> str:
        del attempt
        # A notebook already runs an event loop in this thread, so this one gets a thread of its own.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, call(conversation)).result()

    return ask
