"""The design of a map's rollouts, drawn from a profile and a seed.

Every role and the default answer the same questions: with separate questions per role, the axis is hardly
better than chance. Questions and prompts are sampled from the corpus by the seed, questions balanced over
kinds and areas, and each role's prompts over short and long ones.

A role's questions are divided among its prompts, and each question is asked under one of them. For a given
number of responses this minimises the variance from prompts and questions. Every fold holds one block of
questions and one prompt slot, the same for all roles, so that the statistics can resample either. The profile
"paper" asks every question under every prompt, as the paper does.

Number of rollouts of the default: the axis is the difference of two means, with variance
``sd**2 / nd + sr**2 / nr`` for ``nd`` rollouts of the default with spread ``sd``, and ``nr`` rollouts of all
roles with spread ``sr``. For a fixed total it is smallest at ``nd / nr = sd / sr``, measured as 0.93
(SmolLM2, middle layer).
The short profiles give the default fewer: the remaining uncertainty of the axis comes from the questions, and
more rollouts on the same questions would not reduce it. The paper gives the default as many rollouts as one
role, and so does its profile.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from personascope.chat import Conversation, Message
from personascope.corpus import Corpus, RoleEntry
from personascope.engines import Capture, Request, request_seed
from personascope.errors import CorpusError, UsageError
from personascope.mapping._profile import Profile, check_profile
from personascope.mapping._sample import draw_questions, draw_roles
from personascope.space import FoldDesign

DEFAULT = "default"
"""Role name of the default's rollouts; no role of the corpus may have it."""

DESIGN = "sampled questions and prompts (2)"
"""Name of this design in the metadata of maps; maps without a name have the first, fixed design."""

MIN_BASELINE = 8
"""Minimum number of default responses under a non-empty prompt for a baseline of role information."""

MAX_FOLDS = 12
"""Maximum number of folds, if their sums fit on disk."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to generate.

    Attributes:
        id: Identifier, ``{role}/p{prompt_index}/q{question_index}/s{sample}``.
        role: Name of the role, or "default".
        prompt_index: Index of the prompt among the role's.
        question_index: Index of the question in the corpus.
        sample: Index among rollouts with the same role, prompt and question.
        fold: Fold in which its activation is summed.
    """

    id: str
    role: str
    prompt_index: int
    question_index: int
    sample: int
    fold: int


@dataclass(frozen=True)
class Design:
    """The rollouts of a run in order, the default's first; created lazily.

    Attributes:
        corpus: Roles, questions and the default's prompts.
        profile: Profile of the design.
        seed: Random seed of roles, prompts, questions, the kept sample, and token sampling.
        model_name: Name that replaces ``{model_name}`` in the default's prompts.
        n_places: Number of prompt slots: the largest number of prompts drawn for a role, or fewer slots with
            several prompts each if there are too few folds.
        n_blocks: Number of blocks that the questions are divided into.
        unit_size: Number of rollouts in a unit of work.
        roles: Sampled roles, in the corpus's order.
        questions: Indices of the sampled questions. Neighbours are of one kind and go to different blocks.
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
        """Number of folds: one per block of questions, or per block and prompt slot in a crossed design."""
        return self.n_blocks * (self.n_places if self.profile.crossed else 1)

    @property
    def fold_design(self) -> FoldDesign:
        """The block of questions and the prompt slot of each fold."""
        places = self.n_places
        if self.profile.crossed:
            folds = range(self.n_folds)
            return FoldDesign(tuple(f // places for f in folds), tuple(f % places for f in folds))
        blocks = range(self.n_blocks)
        return FoldDesign(tuple(blocks), tuple(block % places for block in blocks))

    @property
    def n_default(self) -> int:
        """Number of rollouts of the default."""
        return len(self.corpus.default_prompts) * len(self.questions) * self.profile.default_samples

    @property
    def n_default_units(self) -> int:
        """Number of units with the default's rollouts, which come first and hold nothing else."""
        return -(-self.n_default // self.unit_size)

    @property
    def n_units(self) -> int:
        """Number of units of work."""
        return self.n_default_units + -(-(len(self) - self.n_default) // self.unit_size)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups: the default, then the roles in order."""
        return (DEFAULT, *(role.name for role in self.roles))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the rollouts."""
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
        """Return the indices of a role's sampled prompts, in the order of their slots.

        One prompt is drawn from each of as many strata of prompt length, from short to long. The prompts of
        one slot thus have similar length in all roles, and the effect of length cancels with the folds'
        means.
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
        """Create the rollouts of the default (group 0) or of a role (1, 2, ...)."""
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
        # Keep requests that share a prompt together.
        cells.sort()
        return [
            Rollout(f"{name}/p{prompt}/q{question}/s{sample}", name, prompt, question, sample, fold)
            for prompt, question, sample, fold in cells
        ]

    def _unit_span(self, index: int) -> tuple[int, int]:
        """Return the start and end (exclusive) of a unit in the order of the rollouts."""
        if index < self.n_default_units:
            start = index * self.unit_size
            return start, min(start + self.unit_size, self.n_default)
        start = self.n_default + (index - self.n_default_units) * self.unit_size
        return start, min(start + self.unit_size, len(self))

    def unit(self, index: int) -> list[Rollout]:
        """Create the rollouts of a unit of work."""
        start, end = self._unit_span(index)
        starts = self._starts
        rollouts: list[Rollout] = []
        for group in range(len(starts) - 1):
            low, high = max(start, starts[group]), min(end, starts[group + 1])
            if low < high:
                rollouts += self.group_rollouts(group)[low - starts[group] : high - starts[group]]
        return rollouts

    def unit_start(self, index: int) -> int:
        """Return the position of a unit's first rollout among all rollouts."""
        return self._unit_span(index)[0]

    def units_of(self, group: int) -> range:
        """Return the units that hold rollouts of the default (group 0) or of a role (1, 2, ...)."""
        if group == 0:
            return range(self.n_default_units)
        start, end = (place - self.n_default for place in self._starts[group : group + 2])
        first = self.n_default_units
        return range(first + start // self.unit_size, first - (-end // self.unit_size))

    def rollout_at(self, place: int) -> Rollout:
        """Return the rollout at a position among all rollouts."""
        group = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.group_rollouts(group)[place - self._starts[group]]

    def spread(self, count: int) -> list[Rollout]:
        """Return ``count`` rollouts (or all if fewer), evenly spaced over all rollouts."""
        total = len(self)
        count = min(total, count)
        return [self.rollout_at((2 * place + 1) * total // (2 * count)) for place in range(count)]

    def system_prompt(self, rollout: Rollout) -> str:
        """Return the system prompt of a rollout; may be empty."""
        if rollout.role == DEFAULT:
            return self.corpus.default_prompts[rollout.prompt_index].replace("{model_name}", self.model_name)
        return self._by_name[rollout.role].prompts[rollout.prompt_index]

    def role(self, name: str) -> RoleEntry:
        """Return a role by its name."""
        return self._by_name[name]

    def conversation(self, rollout: Rollout) -> Conversation:
        """Return the prompt of a rollout; an empty system prompt gives no system message."""
        system = self.system_prompt(rollout)
        user = self.plain_conversation(rollout)
        return (Message("system", system), *user) if system else user

    def plain_conversation(self, rollout: Rollout) -> Conversation:
        """Return the prompt of a rollout without its system prompt."""
        return (Message("user", self.corpus.questions[rollout.question_index].text),)

    def request(self, rollout: Rollout) -> Request:
        """Return the engine request of a rollout, with pooled activations of all layers."""
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
        """Return the positions of the rollouts whose activations are kept; None for all rollouts."""
        if self.profile.keep == "all" or self.profile.keep >= len(self):
            return None
        rng = np.random.default_rng(request_seed(self.seed, "kept sample"))
        return frozenset(rng.choice(len(self), self.profile.keep, replace=False).tolist())

    def kept_of(self, index: int, ids: Sequence[str]) -> frozenset[str]:
        """Return which rollouts of a unit, given by their ids in order, keep their activations."""
        kept, start = self._kept, self.unit_start(index)
        return frozenset(id for place, id in enumerate(ids, start) if kept is None or place in kept)

    @cached_property
    def _kept(self) -> frozenset[int] | None:
        return self.kept()

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the order of the rollouts beyond ``digest``; nothing in a fixed design."""
        return {}


def build_design(
    corpus: Corpus,
    profile: Profile,
    seed: int,
    model_name: str,
    *,
    max_folds: int = MAX_FOLDS,
    unit_size: int = 512,
) -> Design:
    """Create the design of a run.

    Args:
        corpus: Roles, questions and the default's prompts.
        profile: Profile: sizes and sampling options.
        seed: Random seed.
        model_name: Name of the model in the default's prompts.
        max_folds: Maximum number of folds in which the responses of every role are summed.
        unit_size: Number of rollouts in a unit of work.

    Raises:
        UsageError: If the corpus has too few questions of the requested kinds, or none of a kind, a
            number is too small, or role information would have no baseline.
        CorpusError: If a role is named "default", or its name is no valid file name.
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
        # At least two blocks of questions, so that there are halves to compare.
        places = max(1, min(places, max_folds // 2))
        n_blocks = max(1, max_folds // places)
    else:
        # The same number of blocks per slot, so that every prompt gets the same number of questions.
        places = min(places, max_folds)
        n_blocks = max(1, min(max_folds, len(questions)) // places) * places
    n_blocks = min(n_blocks, len(questions))
    return Design(corpus, profile, seed, model_name, places, n_blocks, unit_size, roles, questions)
