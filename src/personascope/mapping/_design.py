"""Which rollouts a map is made of: profiles, and the design that a seed makes of one.

Every role and the default answer the SAME questions: roles that answer questions of their own make
the axis hardly better than chance. Short profiles ask the first questions of the corpus, under each
role's shortest prompt, which says the role and little else (docs/design.md compares).

How many rollouts the default gets: the axis is the difference of two means, and its variance is
``sd**2 / nd + sr**2 / nr``, for ``nd`` rollouts of the default with spread ``sd`` and ``nr`` of
all roles together with spread ``sr``. For a given sum of both it is smallest at
``nd / nr = sd / sr``, which came out as 0.93 (SmolLM2, middle layer). The profile "standard" gives
the default 0.55 of what all roles have together: that costs the axis 7% of variance against the
optimum, and leaves more for the single role vectors. (The paper gives the default as many as one
role; its profile does likewise.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import Literal

import numpy as np

from personascope.chat import Conversation, Message
from personascope.corpus import Corpus, RoleEntry
from personascope.engines import Capture, Request, Sampling, request_seed
from personascope.errors import CorpusError, UsageError

DEFAULT = "default"
"""The name under which the default's rollouts go; no role may have it."""

Prompts = Literal["shortest", "rotating", "all"]


@dataclass(frozen=True, slots=True)
class Profile:
    """How much is asked of a model, and how much a role vector must rest on.

    Attributes:
        name: Its name.
        prompts: What a role's questions are asked under: its "shortest" prompt, "rotating" through
            its prompts from question to question, or "all" of them.
        questions: Questions, the same for every role and the default: the first of the corpus; None
            for all of them.
        default_samples: Rollouts of the default for each of its prompts and each question.
        max_new_tokens: Length of a response at most.
        min_fully: Responses that a role vector needs.
        min_somewhat: Responses that a role's second vector, of the score 2, needs.
        keep: Pooled activations that stay on the disk, a seeded sample of all rollouts.
        temperature: Of the sampling.
        top_p: Of the sampling.
    """

    name: str
    prompts: Prompts
    questions: int | None
    default_samples: int
    max_new_tokens: int
    min_fully: int
    min_somewhat: int
    keep: int | Literal["all"] = 512
    temperature: float = 0.7
    top_p: float = 0.9

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_new_tokens=self.max_new_tokens)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("quick", "shortest", 6, 20, 24, min_fully=3, min_somewhat=3),
        Profile("standard", "shortest", 16, 30, 40, min_fully=10, min_somewhat=10),
        Profile("paper", "all", None, 1, 512, min_fully=10, min_somewhat=10),
    )
}
"""The profiles by name; "paper" is the design of section 2.1 of arXiv 2601.10387."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to be.

    Attributes:
        id: ``{role}/p{prompt_index}/q{question_index}/s{sample}``.
        role: The role's name, or "default".
        prompt_index: Which of the role's prompts.
        question_index: Which question of the corpus.
        sample: Which of several rollouts that agree in all the rest.
        fold: The fold that its activation is summed in.
    """

    id: str
    role: str
    prompt_index: int
    question_index: int
    sample: int
    fold: int


@dataclass(frozen=True)
class Design:
    """The rollouts of a run in their order, the default first; made when they are asked for.

    Attributes:
        corpus: Roles, questions and the default's prompts.
        profile: What it was made from.
        seed: Of the folds, the kept sample, and the sampling of tokens.
        model_name: What ``{model_name}`` in the default's prompts stands for.
        n_folds: Folds that the rollouts of every role are dealt into.
        unit_size: Rollouts in a unit of work.
        questions: Indices of the questions in the corpus.
    """

    corpus: Corpus
    profile: Profile
    seed: int
    model_name: str
    n_folds: int
    unit_size: int
    questions: tuple[int, ...]

    @property
    def n_default(self) -> int:
        """Rollouts of the default."""
        return len(self.corpus.default_prompts) * len(self.questions) * self.profile.default_samples

    @property
    def n_units(self) -> int:
        """Units of work."""
        return -(-len(self) // self.unit_size)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The default and the roles in their order."""
        return (DEFAULT, *(role.name for role in self.corpus.roles))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides on the rollouts."""
        value = {
            "corpus": self.corpus.digest,
            "profile": asdict(self.profile),
            "seed": self.seed,
            "model_name": self.model_name,
            "n_folds": self.n_folds,
            "unit_size": self.unit_size,
            "questions": [self.corpus.questions[index].id for index in self.questions],
        }
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Rollout]:
        for group in range(len(self.groups)):
            yield from self.group_rollouts(group)

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate((self.size(group) for group in range(len(self.groups))), initial=0))

    @cached_property
    def _roles(self) -> dict[str, RoleEntry]:
        return {role.name: role for role in self.corpus.roles}

    def size(self, group: int) -> int:
        """Return the number of rollouts of the default (group 0) or of a role (1, 2, ...)."""
        if group == 0:
            return self.n_default
        prompts = len(self.corpus.roles[group - 1].prompts) if self.profile.prompts == "all" else 1
        return prompts * len(self.questions)

    def group_rollouts(self, group: int) -> list[Rollout]:
        """Make the rollouts of the default (group 0) or of a role (1, 2, ...)."""
        name = self.groups[group]
        if group == 0:
            cells = [
                (prompt, question, sample)
                for prompt in range(len(self.corpus.default_prompts))
                for question in self.questions
                for sample in range(self.profile.default_samples)
            ]
        else:
            n_prompts = len(self.corpus.roles[group - 1].prompts)
            if self.profile.prompts == "all":
                cells = [(prompt, question, 0) for prompt in range(n_prompts) for question in self.questions]
            elif self.profile.prompts == "shortest":
                prompts = self.corpus.roles[group - 1].prompts
                shortest = min(range(n_prompts), key=lambda index: len(prompts[index]))
                cells = [(shortest, question, 0) for question in self.questions]
            else:
                cells = [
                    ((place + group - 1) % n_prompts, question, 0)
                    for place, question in enumerate(self.questions)
                ]
                cells.sort()
        folds = self._folds(name, len(cells), self.profile.default_samples if group == 0 else len(cells))
        return [
            Rollout(f"{name}/p{prompt}/q{question}/s{sample}", name, prompt, question, sample, fold)
            for (prompt, question, sample), fold in zip(cells, folds, strict=True)
        ]

    def _folds(self, name: str, count: int, stratum: int) -> list[int]:
        # Dealing goes on from stratum to stratum, so the folds differ by one at most in all.
        rng = np.random.default_rng(request_seed(self.seed, f"folds of {name}"))
        folds = np.empty(count, np.int64)
        for start in range(0, count, stratum):
            order = start + rng.permutation(min(stratum, count - start))
            folds[order] = (start + np.arange(len(order))) % self.n_folds
        return folds.tolist()

    def unit(self, index: int) -> list[Rollout]:
        """Make the rollouts of a unit of work."""
        start = index * self.unit_size
        end = min(start + self.unit_size, len(self))
        starts = self._starts
        rollouts: list[Rollout] = []
        for group in range(len(starts) - 1):
            low, high = max(start, starts[group]), min(end, starts[group + 1])
            if low < high:
                rollouts += self.group_rollouts(group)[low - starts[group] : high - starts[group]]
        return rollouts

    def units_of(self, group: int) -> range:
        """Return the units that hold rollouts of the default (group 0) or of a role (1, 2, ...)."""
        start, end = self._starts[group], self._starts[group + 1]
        return range(start // self.unit_size, -(-end // self.unit_size))

    def system_prompt(self, rollout: Rollout) -> str:
        """Return the system prompt of a rollout, which may be empty."""
        if rollout.role == DEFAULT:
            return self.corpus.default_prompts[rollout.prompt_index].replace("{model_name}", self.model_name)
        return self._roles[rollout.role].prompts[rollout.prompt_index]

    def role(self, name: str) -> RoleEntry:
        """Return a role by its name."""
        return self._roles[name]

    def conversation(self, rollout: Rollout) -> Conversation:
        """Return what the model is shown; an empty system prompt gives no system message."""
        system = self.system_prompt(rollout)
        user = Message("user", self.corpus.questions[rollout.question_index].text)
        return (Message("system", system), user) if system else (user,)

    def request(self, rollout: Rollout) -> Request:
        """Return the request for a rollout, with all layers pooled."""
        return Request(
            id=rollout.id,
            prompt=self.conversation(rollout),
            sampling=self.profile.sampling,
            capture=Capture(),
            seed=self.seed,
        )

    def kept(self) -> frozenset[int] | None:
        """Return the places of the rollouts whose activations are kept; None for all of them."""
        if self.profile.keep == "all" or self.profile.keep >= len(self):
            return None
        rng = np.random.default_rng(request_seed(self.seed, "kept sample"))
        return frozenset(rng.choice(len(self), self.profile.keep, replace=False).tolist())


def build_design(
    corpus: Corpus,
    profile: Profile,
    seed: int,
    model_name: str,
    *,
    n_folds: int = 8,
    unit_size: int = 512,
) -> Design:
    """Make the design of a run.

    Args:
        corpus: Roles, questions and the default's prompts.
        profile: How much to ask.
        seed: Of everything that is drawn.
        model_name: What the default's prompts call the model.
        n_folds: Folds that the rollouts of every role are dealt into.
        unit_size: Rollouts in a unit of work.

    Raises:
        UsageError: If the corpus has fewer questions than the profile asks for, or a number is
            below 1.
        CorpusError: If a role is called "default", or has a name that cannot be a file's.
    """
    for what, value in (
        ("n_folds", n_folds),
        ("unit_size", unit_size),
        ("default_samples", profile.default_samples),
        ("questions", 1 if profile.questions is None else profile.questions),
    ):
        if value < 1:
            raise UsageError(f"{what} is {value}", mend="give 1 or more")
    if profile.questions is not None and profile.questions > len(corpus.questions):
        raise UsageError(
            f"the profile {profile.name} asks {profile.questions} questions, "
            f"the corpus has {len(corpus.questions)}",
            mend="ask fewer questions, or add some to the corpus",
        )
    for role in corpus.roles:
        if role.name == DEFAULT or not re.fullmatch(r"\w[\w.-]*", role.name):
            raise CorpusError(
                f"{role.name!r} cannot be the name of a role",
                mend='use letters, digits, "_", "-" and ".", and another name than "default"',
            )
    count = len(corpus.questions) if profile.questions is None else profile.questions
    return Design(corpus, profile, seed, model_name, n_folds, unit_size, tuple(range(count)))
