"""What an evaluation asks, whatever the plan: its trials, and the digest that tells two sets apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from personascope.chat import Conversation, Message
from personascope.corpus import Corpus
from personascope.corpus.datasets import (
    JailbreakItem,
    JailbreakSet,
    Opening,
    Susceptibility,
    load_openings,
    load_susceptibility,
)
from personascope.engines import Engine, Sampling, sampling_record
from personascope.errors import UsageError
from personascope.judge import (
    ADMITS_ROLE_PLAY,
    JAILBREAK,
    SELF_DESCRIPTION,
    SUSCEPTIBILITY,
    TRAITS,
    Rubric,
)

NO_ROLE = "default"
"""The group of trials without a role."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One response to generate and to label under every condition.

    Attributes:
        id: Unique in its evaluation, and the same under every condition: that pairs conditions.
        group: What trials share that must be drawn together in a bootstrap (a role, a question).
        variant: A part of the evaluation that is counted apart, such as "persona" and "plain".
        prompt: A conversation, or token ids.
        system_prompt: For the judge and for readers.
        question: Likewise; for a base model, the opening.
        rubrics: What the response is labelled by; none where its text alone is measured.
    """

    id: str
    group: str
    variant: str
    prompt: Conversation | tuple[int, ...]
    system_prompt: str
    question: str
    rubrics: tuple[Rubric, ...]


@dataclass(frozen=True, slots=True)
class Trials:
    """An evaluation's trials.

    Attributes:
        name: The evaluation's name.
        items: The trials.
        sampling: How responses are drawn.
        source: Where the texts came from.
        problems: What of the source could not be used, a line each.
    """

    name: str
    items: tuple[Trial, ...]
    sampling: Sampling
    source: str = "builtin"
    problems: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse an empty or ambiguous set.

        Raises:
            UsageError: If there is no trial, or two share an id.
        """
        if not self.items:
            raise UsageError(f"the evaluation {self.name} has no trial", hint="ask for more of it")
        if len({trial.id for trial in self.items}) < len(self.items):
            raise UsageError(f"two trials of {self.name} have one id", hint="give each its own")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that changes a response."""
        content = [
            [
                t.id,
                t.variant,
                [[m.role, m.content] for m in t.prompt if isinstance(m, Message)] or list(map(str, t.prompt)),
            ]
            for t in self.items
        ]
        text = json.dumps([self.name, sampling_record(self.sampling), content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def rubrics(self) -> dict[str, str]:
        """Name -> digest of the rubrics that label the responses."""
        return {rubric.name: rubric.digest for trial in self.items for rubric in trial.rubrics}


def susceptibility_trials(
    corpus: Corpus,
    roles: Sequence[str],
    *,
    texts: Susceptibility | None = None,
    prompts: int | None = None,
    max_new_tokens: int = 32,
) -> Trials:
    """Make the trials of role susceptibility: roles x system prompts x questions (section 3.2).

    Args:
        corpus: Has the roles' descriptions.
        roles: Names; the paper takes the 50 nearest the Assistant (`nearest_roles`).
        texts: Questions and templates; the built-in ones by default.
        prompts: Templates to use, the first ones; all four by default.
        max_new_tokens: Length of a response at most.

    Raises:
        UsageError: If the corpus has no such role, or there is nothing to ask.
    """
    texts = texts or load_susceptibility()
    items: list[Trial] = []
    for name in roles:
        role = corpus.role(name)
        filled = texts.prompts(role)
        for template, system in list(zip(texts.templates, filled, strict=True))[:prompts]:
            items += [
                Trial(
                    id=f"{name}/{template.id}/{question.id}",
                    group=name,
                    variant="role_play" if question.asks_role_play else "identity",
                    prompt=(Message("system", system), Message("user", question.text)),
                    system_prompt=system,
                    question=question.text,
                    rubrics=(ADMITS_ROLE_PLAY if question.asks_role_play else SUSCEPTIBILITY,),
                )
                for question in texts.questions
            ]
    return Trials(
        "susceptibility", tuple(items), Sampling(max_new_tokens=max_new_tokens), source=texts.source
    )


def jailbreak_trials(found: JailbreakSet, *, max_new_tokens: int = 96, limit: int | None = None) -> Trials:
    """Make the trials of persona jailbreaks: questions with their personas, and once without (section 3.2).

    Args:
        found: The set.
        max_new_tokens: Length of a response at most.
        limit: Pairs at most; the questions without a persona are those of the pairs.
    """
    pairs = found.items[:limit]
    asked = {item.question for item in pairs}
    plain = [item for item in found.plain if item.question in asked]
    return Trials(
        "jailbreak",
        (*(_jailbreak(item, "persona") for item in pairs), *(_jailbreak(item, "plain") for item in plain)),
        Sampling(max_new_tokens=max_new_tokens),
        source=found.source,
        problems=found.problems,
    )


def _jailbreak(item: JailbreakItem, variant: str) -> Trial:
    user = Message("user", item.question)
    prompt = (Message("system", item.system_prompt), user) if item.system_prompt else (user,)
    id = f"{variant}/{item.id}"
    return Trial(id, item.question, variant, prompt, item.system_prompt, item.question, (JAILBREAK,))


def opening_trials(
    engine: Engine,
    *,
    openings: Sequence[Opening] | None = None,
    samples: int = 400,
    max_new_tokens: int = 24,
) -> Trials:
    """Make the trials of pre-trained models: completions of openings of self-description (section 3.2).

    Args:
        engine: Tokenizes the openings.
        openings: By default the paper's five.
        samples: Completions of each; the paper takes 400.
        max_new_tokens: Length of a completion at most.
    """
    chosen = load_openings() if openings is None else openings
    items = tuple(
        Trial(
            id=f"{opening.id}/{number}",
            group=f"{opening.id}/{number}",
            variant=opening.id,
            prompt=engine.encode(opening.text, special=True),
            system_prompt="",
            question=opening.text,
            rubrics=(SELF_DESCRIPTION, TRAITS),
        )
        for opening in chosen
        for number in range(samples)
    )
    return Trials("pretrained", items, Sampling(temperature=1.0, top_p=1.0, max_new_tokens=max_new_tokens))


def ordinary_trials(chats: Sequence[Conversation], *, max_new_tokens: int = 96) -> Trials:
    """Make the trials of coherence: what users ask first in ordinary chats, nothing labelled.

    Raises:
        UsageError: If no chat begins with a user's message.
    """
    asked = [next((m for m in chat if m.role == "user"), None) for chat in chats]
    items = tuple(
        Trial(f"chat/{number}", f"chat/{number}", "", (message,), "", message.content, ())
        for number, message in enumerate(asked)
        if message is not None
    )
    return Trials("coherence", items, Sampling(max_new_tokens=max_new_tokens))
