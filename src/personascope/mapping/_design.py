"""Which rollouts a map is made of: profiles, and the design that a seed makes of one.

Every role and the default answer the SAME questions: roles that answer questions of their own make
the axis hardly better than chance. Questions and prompts are samples: a seed draws them from the
corpus, questions balanced over kinds and areas, each role's prompts over short and long ones.

A role's questions are shared out among its prompts, each question asked under one of them: for a given
number of responses that leaves the least variance from prompts and questions both. Every fold then holds one
block of questions and one place among the prompts, the same for all roles, so that the statistics can
resample either. The profile "paper" asks every question under every prompt, as the paper does.

How many rollouts the default gets: the axis is the difference of two means, and its variance is
``sd**2 / nd + sr**2 / nr``, for ``nd`` rollouts of the default with spread ``sd`` and ``nr`` of
all roles together with spread ``sr``. For a given sum of both it is smallest at
``nd / nr = sd / sr``, which came out as 0.93 (SmolLM2, middle layer). The short profiles give the default
less than that: what is uncertain in the axis then lies in the questions, which more rollouts of the
default on the same questions would not make good. (The paper gives the default as many as one role; its
profile does likewise.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from personascope.chat import Conversation, Message
from personascope.corpus import Corpus, RoleEntry
from personascope.engines import Capture, Request, request_seed
from personascope.errors import CorpusError, UsageError
from personascope.mapping._profile import Profile, check_profile
from personascope.mapping._sample import draw_questions, draw_roles
from personascope.space import FoldDesign

DEFAULT = "default"
"""The name under which the default's rollouts go; no role may have it."""

DESIGN = "sampled questions and prompts (2)"
"""What maps of this design say of it; maps that say nothing are of the first, fixed one."""

MIN_BASELINE = 8
"""Responses of the default under a prompt with text, below which role information has no baseline."""

MAX_FOLDS = 12
"""Folds at most, where the disk has room for their sums."""


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
        seed: Seed of what is drawn: roles, prompts, questions, the kept sample, and the tokens.
        model_name: What ``{model_name}`` in the default's prompts stands for.
        n_places: Places for a role's prompts: as many as are drawn of the role that has the most, or fewer,
            each for several prompts, where the folds do not suffice.
        n_blocks: Blocks that the questions are dealt into.
        unit_size: Rollouts in a unit of work.
        roles: The roles drawn, in the corpus's order.
        questions: Indices of the questions drawn; neighbours are of one kind, and go to different blocks.
    """

    corpus: Corpus
    profile: Profile
    seed: int
    model_name: str
    n_places: int
    n_blocks: int
    unit_size: int
    roles: tuple[RoleEntry, ...]
    questions: tuple[int, ...]

    @property
    def n_folds(self) -> int:
        """Folds: blocks of questions, each under one prompt, or where the design is crossed, under each."""
        return self.n_blocks * (self.n_places if self.profile.crossed else 1)

    @property
    def fold_design(self) -> FoldDesign:
        """Which block of questions and which place among the prompts each fold stands for."""
        places = self.n_places
        if self.profile.crossed:
            folds = range(self.n_folds)
            return FoldDesign(tuple(f // places for f in folds), tuple(f % places for f in folds))
        blocks = range(self.n_blocks)
        return FoldDesign(tuple(blocks), tuple(block % places for block in blocks))

    @property
    def n_default(self) -> int:
        """Rollouts of the default."""
        return len(self.corpus.default_prompts) * len(self.questions) * self.profile.default_samples

    @property
    def n_default_units(self) -> int:
        """Units of work that hold the default's rollouts, and nothing else; they come first."""
        return -(-self.n_default // self.unit_size)

    @property
    def n_units(self) -> int:
        """Units of work."""
        return self.n_default_units + -(-(len(self) - self.n_default) // self.unit_size)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The default and the roles in their order."""
        return (DEFAULT, *(role.name for role in self.roles))

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides on the rollouts."""
        value = {
            "design": DESIGN,
            "corpus": self.corpus.digest,
            "profile": self.profile.record,
            "seed": self.seed,
            "model_name": self.model_name,
            "n_places": self.n_places,
            "n_blocks": self.n_blocks,
            "unit_size": self.unit_size,
            "roles": [role.name for role in self.roles],
            "questions": list(self.questions),
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
    def _by_name(self) -> dict[str, RoleEntry]:
        return {role.name: role for role in self.roles}

    def size(self, group: int) -> int:
        """Return the number of rollouts of the default (group 0) or of a role (1, 2, ...)."""
        if group == 0:
            return self.n_default
        prompts = len(self.prompts_of(self.roles[group - 1])) if self.profile.crossed else 1
        return prompts * len(self.questions)

    def prompts_of(self, role: RoleEntry) -> tuple[int, ...]:
        """Return which of a role's prompts are used, in the order of their places.

        One is drawn from each of as many strata of the prompts, from short to long. So the prompts of one
        place are of like length in all roles, and what length does falls out with the folds' own means.
        """
        by_length = sorted(range(len(role.prompts)), key=lambda index: (len(role.prompts[index]), index))
        wanted = self.profile.prompts
        if wanted is None or wanted >= len(by_length):
            return tuple(range(len(by_length)))
        rng = np.random.default_rng(request_seed(self.seed, f"prompts of {role.name}"))
        sizes = np.full(wanted, len(by_length) // wanted)
        sizes[rng.permutation(wanted)[: len(by_length) % wanted]] += 1
        ends = np.cumsum(sizes)
        drawn = [by_length[rng.integers(end - size, end)] for size, end in zip(sizes, ends, strict=True)]
        return tuple(int(index) for index in drawn)

    def group_rollouts(self, group: int) -> list[Rollout]:
        """Make the rollouts of the default (group 0) or of a role (1, 2, ...)."""
        name = self.groups[group]
        places = self.n_places
        cells: list[tuple[int, int, int, int]] = []
        prompts = tuple(range(len(self.corpus.default_prompts)))
        if group:
            prompts = self.prompts_of(self.roles[group - 1])
        for number, question in enumerate(self.questions):
            block = number % self.n_blocks
            if self.profile.crossed:
                cells += [
                    (prompt, question, sample, block * places + place % places)
                    for place, prompt in enumerate(prompts)
                    for sample in range(1 if group else self.profile.default_samples)
                ]
            elif group:
                cells.append((prompts[block % places % len(prompts)], question, 0, block))
            else:
                cells += [
                    (prompt, question, sample, block)
                    for prompt in prompts
                    for sample in range(self.profile.default_samples)
                ]
        # Requests that share a prompt stand together.
        cells.sort()
        return [
            Rollout(f"{name}/p{prompt}/q{question}/s{sample}", name, prompt, question, sample, fold)
            for prompt, question, sample, fold in cells
        ]

    def _unit_span(self, index: int) -> tuple[int, int]:
        """Return where a unit begins and ends in the order of the rollouts."""
        if index < self.n_default_units:
            start = index * self.unit_size
            return start, min(start + self.unit_size, self.n_default)
        start = self.n_default + (index - self.n_default_units) * self.unit_size
        return start, min(start + self.unit_size, len(self))

    def unit(self, index: int) -> list[Rollout]:
        """Make the rollouts of a unit of work."""
        start, end = self._unit_span(index)
        starts = self._starts
        rollouts: list[Rollout] = []
        for group in range(len(starts) - 1):
            low, high = max(start, starts[group]), min(end, starts[group + 1])
            if low < high:
                rollouts += self.group_rollouts(group)[low - starts[group] : high - starts[group]]
        return rollouts

    def unit_start(self, index: int) -> int:
        """Return the place of a unit's first rollout in the order of all rollouts."""
        return self._unit_span(index)[0]

    def units_of(self, group: int) -> range:
        """Return the units that hold rollouts of the default (group 0) or of a role (1, 2, ...)."""
        if group == 0:
            return range(self.n_default_units)
        start, end = (place - self.n_default for place in self._starts[group : group + 2])
        first = self.n_default_units
        return range(first + start // self.unit_size, first - (-end // self.unit_size))

    def rollout_at(self, place: int) -> Rollout:
        """Return a rollout by its place in the order of all rollouts."""
        group = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.group_rollouts(group)[place - self._starts[group]]

    def spread(self, count: int) -> list[Rollout]:
        """Return so many rollouts (or all), evenly spread over the order of all of them."""
        total = len(self)
        count = min(total, count)
        return [self.rollout_at((2 * place + 1) * total // (2 * count)) for place in range(count)]

    def system_prompt(self, rollout: Rollout) -> str:
        """Return the system prompt of a rollout, which may be empty."""
        if rollout.role == DEFAULT:
            return self.corpus.default_prompts[rollout.prompt_index].replace("{model_name}", self.model_name)
        return self._by_name[rollout.role].prompts[rollout.prompt_index]

    def role(self, name: str) -> RoleEntry:
        """Return a role by its name."""
        return self._by_name[name]

    def conversation(self, rollout: Rollout) -> Conversation:
        """Return what the model is shown; an empty system prompt gives no system message."""
        system = self.system_prompt(rollout)
        user = self.plain_conversation(rollout)
        return (Message("system", system), *user) if system else user

    def plain_conversation(self, rollout: Rollout) -> Conversation:
        """Return the question of a rollout alone, without a system prompt."""
        return (Message("user", self.corpus.questions[rollout.question_index].text),)

    def request(self, rollout: Rollout) -> Request:
        """Return the request for a rollout, with all layers pooled."""
        return Request(
            id=rollout.id,
            prompt=self.conversation(rollout),
            sampling=self.profile.sampling,
            capture=Capture(),
            seed=self.seed,
            logprobs=self.profile.role_information,
            tokens=self.profile.tokens,
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
    max_folds: int = MAX_FOLDS,
    unit_size: int = 512,
) -> Design:
    """Make the design of a run.

    Args:
        corpus: Roles, questions and the default's prompts.
        profile: How much to ask.
        seed: Random seed of all that is drawn.
        model_name: What the default's prompts call the model.
        max_folds: Folds at most that the responses of every role are summed in.
        unit_size: Rollouts in a unit of work.

    Raises:
        UsageError: If the corpus has fewer questions (of the kinds asked for) than the profile asks for, or
            none of a kind, a number is too small, or role information would have no baseline.
        CorpusError: If a role is called "default", or has a name that cannot be a file's.
    """
    check_profile(profile)
    for what, value in (("max_folds", max_folds), ("unit_size", unit_size)):
        if value < 1:
            raise UsageError(f"{what} is {value}", hint="give 1 or more")
    for role in corpus.roles:
        if role.name == DEFAULT or not re.fullmatch(r"\w[\w.-]*", role.name):
            raise CorpusError(
                f"{role.name!r} cannot be the name of a role",
                hint='use letters, digits, "_", "-" and ".", and another name than "default"',
            )
    roles = draw_roles(corpus.roles, profile.roles, seed)
    questions = draw_questions(corpus, profile, seed)
    if profile.role_information:
        neutral = sum(bool(prompt) for prompt in corpus.default_prompts)
        baseline = neutral * len(questions) * profile.default_samples
        if baseline < MIN_BASELINE:
            raise UsageError(
                f"the default has {baseline} responses under a prompt with text, and role information is "
                f"held against {MIN_BASELINE} or more",
                hint="give the corpus neutral default prompts, or map with --no-role-information",
            )
    most = max((len(role.prompts) for role in roles), default=1)
    places = most if profile.prompts is None else min(profile.prompts, most)
    if profile.crossed:
        # Two blocks of questions at least, so that there are halves to compare.
        places = max(1, min(places, max_folds // 2))
        n_blocks = max(1, max_folds // places)
    else:
        # As many blocks for each place, so that every prompt answers as many questions.
        places = min(places, max_folds)
        n_blocks = max(1, min(max_folds, len(questions)) // places) * places
    n_blocks = min(n_blocks, len(questions))
    return Design(corpus, profile, seed, model_name, places, n_blocks, unit_size, roles, questions)
