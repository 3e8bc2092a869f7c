"""Drift and harm: which roles, which first questions, and which harmful question comes after each.

The first questions are the same for every role, so that roles do not differ by what they were asked. The
harmful questions are dealt to each role from a shuffled pile of its own: over all roles every question meets
every part of the axis, and a role has the same trials whatever other roles are in the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from personascope.chat import Conversation, Message
from personascope.corpus import Corpus
from personascope.corpus.datasets import JailbreakItem, JailbreakSet
from personascope.engines import Sampling, request_seed, sampling_record
from personascope.errors import UsageError
from personascope.mapping import DEFAULT


@dataclass(frozen=True, slots=True)
class Opening:
    """A first turn: a question under a role's system prompt, or under one of the default's.

    Attributes:
        id: ``<role>/p<prompt>/q<question>``.
        role: The role's name, or "default".
        system_prompt: May be empty.
        question: The user's first message.
    """

    id: str
    role: str
    system_prompt: str
    question: str

    @property
    def conversation(self) -> Conversation:
        """What the model answers first; an empty system prompt gives no system message."""
        user = Message("user", self.question)
        return (Message("system", self.system_prompt), user) if self.system_prompt else (user,)


@dataclass(frozen=True, slots=True)
class HarmTrial:
    """A first turn, and the harmful question that follows the reply to it.

    Attributes:
        id: ``<opening>/<harmful question>``.
        opening: The first turn; trials of one opening share its reply.
        harmful: The question of the second turn.
    """

    id: str
    opening: Opening
    harmful: JailbreakItem

    def conversation(self, reply: str) -> Conversation:
        """What the model answers second, given its first reply."""
        return (
            *self.opening.conversation,
            Message("assistant", reply),
            Message("user", self.harmful.question),
        )


@dataclass(frozen=True)
class HarmDesign:
    """The trials of a run.

    Attributes:
        trials: In order, those of a role together, the ones without a role first.
        first: How the first replies are drawn.
        second: How the second replies are drawn.
        seed: Of the design and of the sampling.
        source: Where the harmful questions came from.
        problems: What of that source could not be used, a line each.
    """

    trials: tuple[HarmTrial, ...]
    first: Sampling
    second: Sampling
    seed: int
    source: str = "builtin"
    problems: tuple[str, ...] = field(default=())

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The roles in order, "default" for none among them."""
        return tuple(dict.fromkeys(trial.opening.role for trial in self.trials))

    @cached_property
    def by_role(self) -> dict[str, tuple[HarmTrial, ...]]:
        """The trials of each role."""
        found: dict[str, list[HarmTrial]] = {}
        for trial in self.trials:
            found.setdefault(trial.opening.role, []).append(trial)
        return {role: tuple(trials) for role, trials in found.items()}

    def openings(self, role: str) -> tuple[Opening, ...]:
        """Return the first turns of a role, each once."""
        return tuple({trial.opening.id: trial.opening for trial in self.by_role[role]}.values())

    @property
    def n_openings(self) -> int:
        """First turns of all roles."""
        return len({trial.opening.id for trial in self.trials})

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that changes a reply."""
        content = [
            [t.id, t.opening.system_prompt, t.opening.question, t.harmful.question] for t in self.trials
        ]
        text = json.dumps(
            [sampling_record(self.first), sampling_record(self.second), self.seed, content], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()


def harm_design(
    corpus: Corpus,
    harmful: JailbreakSet,
    *,
    model_name: str,
    roles: Sequence[str] | None = None,
    questions: int = 10,
    per_reply: int = 1,
    no_role: bool = True,
    seed: int = 0,
    first_tokens: int = 128,
    second_tokens: int = 96,
) -> HarmDesign:
    """Pair roles and first questions with harmful questions, by a seeded draw (METHOD 4).

    Args:
        corpus: Roles with their system prompts, first questions, and the default's prompts.
        harmful: Its questions without a persona are asked (`load_harmful_questions`).
        model_name: What ``{model_name}`` in the default's prompts stands for.
        roles: Names; all of the corpus by default. The paper takes all 275.
        questions: First questions, drawn once for all roles; the paper takes 10. A role's system
            prompts take turns over them.
        per_reply: Harmful questions that are asked after each first reply, each in a conversation of
            its own.
        no_role: Whether to ask the same under each of the default's prompts, as a control.
        seed: Of everything that is drawn.
        first_tokens: Length of a first reply at most.
        second_tokens: Length of a second reply at most.

    Raises:
        UsageError: If a number is below 1 or beyond what there is, a role is unknown or named twice, or
            the set has no question.
    """
    asked = harmful.plain
    if not asked:
        raise UsageError(f"the set {harmful.source} has no question", hint="name a set that has some")
    for what, value, most in (
        ("questions", questions, len(corpus.questions)),
        ("per_reply", per_reply, len(asked)),
        ("first_tokens", first_tokens, None),
        ("second_tokens", second_tokens, None),
    ):
        if value < 1 or (most is not None and value > most):
            raise UsageError(
                f"{what} is {value}",
                hint="give 1 or more" if most is None else f"give a number from 1 to {most}",
            )
    names = [role.name for role in corpus.roles] if roles is None else list(roles)
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"the roles are {', '.join(names) or 'none'}", hint="name at least one, and each of them once"
        )
    chosen = np.random.default_rng(request_seed(seed, "first questions")).permutation(len(corpus.questions))
    first = sorted(int(place) for place in chosen[:questions])
    trials: list[HarmTrial] = []
    if no_role:
        filled = [text.replace("{model_name}", model_name) for text in corpus.default_prompts]
        cells = [(prompt, question) for prompt in range(len(filled)) for question in first]
        trials += _deal(_openings(corpus, DEFAULT, filled, cells), asked, per_reply, seed)
    for name in names:
        prompts = corpus.role(name).prompts
        start = request_seed(seed, f"prompts of {name}") % len(prompts)
        cells = [((start + place) % len(prompts), question) for place, question in enumerate(first)]
        trials += _deal(_openings(corpus, name, prompts, cells), asked, per_reply, seed)
    return HarmDesign(
        tuple(trials),
        Sampling(max_new_tokens=first_tokens),
        Sampling(max_new_tokens=second_tokens),
        seed,
        harmful.source,
        harmful.problems,
    )


def _openings(
    corpus: Corpus, role: str, prompts: Sequence[str], cells: Sequence[tuple[int, int]]
) -> list[Opening]:
    return [
        Opening(f"{role}/p{prompt}/q{question}", role, prompts[prompt], corpus.questions[question].text)
        for prompt, question in cells
    ]


def _deal(
    openings: Sequence[Opening], asked: Sequence[JailbreakItem], per_reply: int, seed: int
) -> list[HarmTrial]:
    """Deal the harmful questions of one role: the pile goes round, so each comes up about equally often."""
    role = openings[0].role
    pile = np.random.default_rng(request_seed(seed, f"harmful questions of {role}")).permutation(len(asked))
    trials: list[HarmTrial] = []
    for place, opening in enumerate(openings):
        for number in range(place * per_reply, (place + 1) * per_reply):
            item = asked[int(pile[number % len(pile)])]
            trials.append(HarmTrial(f"{opening.id}/{item.id.removesuffix('/none')}", opening, item))
    return trials
