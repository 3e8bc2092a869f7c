"""Design of drift and harm: roles, first questions, and the harmful question after each.

The first questions are the same for every role, so that roles do not differ by their questions. Each role
gets the harmful questions in a shuffled order of its own, so that across roles every question meets all parts
of the axis. A role's trials do not depend on which other roles are in the run.
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
    """A first turn: a question under a system prompt of a role or of the default.

    Attributes:
        id: Identifier, ``<role>/p<prompt>/q<question>``.
        role: Name of the role, or "default".
        system_prompt: System prompt; may be empty.
        question: First user message.
    """

    id: str
    role: str
    system_prompt: str
    question: str

    @property
    def conversation(self) -> Conversation:
        """Prompt of the first reply; an empty system prompt gives no system message."""
        user = Message("user", self.question)
        return (Message("system", self.system_prompt), user) if self.system_prompt else (user,)


@dataclass(frozen=True, slots=True)
class HarmTrial:
    """A first turn, and the harmful question that follows the reply to it.

    Attributes:
        id: Identifier, ``<opening>/<harmful question>``.
        opening: First turn; trials of one opening share its reply.
        harmful: Harmful question of the second turn.
    """

    id: str
    opening: Opening
    harmful: JailbreakItem

    def conversation(self, reply: str) -> Conversation:
        """Return the prompt of the second reply, given the first reply."""
        return (
            *self.opening.conversation,
            Message("assistant", reply),
            Message("user", self.harmful.question),
        )


@dataclass(frozen=True)
class HarmDesign:
    """The trials of a run, with their sampling options.

    Attributes:
        trials: Trials in order, grouped by role, those without a role first.
        first: Sampling options of the first replies.
        second: Sampling options of the second replies.
        seed: Random seed of the design and the sampling.
        source: Source of the harmful questions.
        problems: Parts of that source that could not be used, one line each.
    """

    trials: tuple[HarmTrial, ...]
    first: Sampling
    second: Sampling
    seed: int
    source: str = "builtin"
    problems: tuple[str, ...] = field(default=())

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The roles in order; trials without a role are under "default"."""
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
        """Number of distinct first turns."""
        return len({trial.opening.id for trial in self.trials})

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything in the design that affects a reply."""
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
    """Pair roles and first questions with harmful questions at random (METHOD 4).

    Args:
        corpus: Corpus of roles with their system prompts, first questions, and the default's prompts.
        harmful: Set whose questions without a persona are asked (`load_harmful_questions`).
        model_name: Name that replaces ``{model_name}`` in the default's prompts.
        roles: Names of the roles; all of the corpus by default. The paper uses all 275.
        questions: Number of first questions, drawn once for all roles; the paper uses 10. A role's system
            prompts alternate over them.
        per_reply: Number of harmful questions asked after each first reply, each in its own conversation.
        no_role: Whether to ask the same under each of the default's prompts, as a control.
        seed: Random seed.
        first_tokens: Maximum length of a first reply, in tokens.
        second_tokens: Maximum length of a second reply, in tokens.

    Raises:
        UsageError: If a number is out of range, a role is unknown or named twice, or the set has no question.
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
    """Assign harmful questions to one role's openings, cycling through a shuffled order of all questions."""
    role = openings[0].role
    pile = np.random.default_rng(request_seed(seed, f"harmful questions of {role}")).permutation(len(asked))
    trials: list[HarmTrial] = []
    for place, opening in enumerate(openings):
        for number in range(place * per_reply, (place + 1) * per_reply):
            item = asked[int(pile[number % len(pile)])]
            trials.append(HarmTrial(f"{opening.id}/{item.id.removesuffix('/none')}", opening, item))
    return trials
