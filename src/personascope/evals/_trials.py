"""Trials of an evaluation, which are the same under every condition."""

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
"""Name of the group of trials without a role."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One response to generate and to label under every condition.

    Attributes:
        id: Identifier, unique in the evaluation and the same under every condition, for paired comparisons.
        group: Cluster of trials that a bootstrap resamples together (a role, a question).
        variant: Part of the evaluation that is counted separately, such as "persona" or "plain".
        prompt: Conversation, or token ids.
        system_prompt: System prompt to show to the judge and in results.
        question: Question to show to the judge and in results; for a base model, the opening.
        rubrics: Rubrics that label the response; empty if its text alone is measured.
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
    """The trials of an evaluation.

    Attributes:
        name: Name of the evaluation.
        items: Trials, in order.
        sampling: Sampling options of the responses.
        source: Source of the texts.
        problems: Parts of the source that could not be used, one line each.
    """

    name: str
    items: tuple[Trial, ...]
    sampling: Sampling
    source: str = "builtin"
    problems: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check that there are trials and that their ids are unique.

        Raises:
            UsageError: If there is no trial, or two share an id.
        """
        if not self.items:
            raise UsageError(f"the evaluation {self.name} has no trial", hint="ask for more of it")
        if len({trial.id for trial in self.items}) < len(self.items):
            raise UsageError(f"two trials of {self.name} have one id", hint="give each its own")

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything in the trials that affects a response."""
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
        """Rubric name -> digest, for the rubrics that label the responses."""
        return {rubric.name: rubric.digest for trial in self.items for rubric in trial.rubrics}


def susceptibility_trials(
    corpus: Corpus,
    roles: Sequence[str],
    *,
    texts: Susceptibility | None = None,
    prompts: int | None = None,
    max_new_tokens: int = 32,
) -> Trials:
    """Create the trials of role susceptibility: roles x system prompts x questions (section 3.2).

    Args:
        corpus: Corpus with the roles' descriptions.
        roles: Names of the roles; the paper takes the 50 nearest the Assistant (`nearest_roles`).
        texts: Questions and templates; the built-in ones by default.
        prompts: Number of templates to use, from the first; all by default.
        max_new_tokens: Maximum length of a response, in tokens.

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
    """Create the trials of persona jailbreaks: questions with personas, and once without (section 3.2).

    Args:
        found: Set of jailbreak questions and personas.
        max_new_tokens: Maximum length of a response, in tokens.
        limit: Maximum number of question-persona pairs; the trials without a persona use the same questions.
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
    """Create the trials of pre-trained models: completions of self-description openings (section 3.2).

    Args:
        engine: Engine whose tokenizer encodes the openings.
        openings: Openings to complete; the paper's five by default.
        samples: Number of completions per opening; the paper takes 400.
        max_new_tokens: Maximum length of a completion, in tokens.
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
    """Create the trials of coherence: the first user message of ordinary chats, without labels.

    Raises:
        UsageError: If no chat has a user message.
    """
    asked = [next((m for m in chat if m.role == "user"), None) for chat in chats]
    items = tuple(
        Trial(f"chat/{number}", f"chat/{number}", "", (message,), "", message.content, ())
        for number, message in enumerate(asked)
        if message is not None
    )
    return Trials("coherence", items, Sampling(max_new_tokens=max_new_tokens))
