"""The rounds of an adaptive design: which rollouts of the whole design come when.

Every rollout is one of the whole design, with its id, its prompt and its fold. Each role has an order of its
own over its rollouts, drawn from the seed, and a balanced round takes the next of every role. Questions come
in groups: of a round's roles about 20 answer each, so that the default meets many questions early (what is
left unknown of the axis comes from the questions), and the next groups come before the rest of the roles
answer the first. A role's prompts take turns. The effects of the questions are estimated with those of the
roles (`fold_centres`), so roles need not have answered the same ones.

The default answers a question from the round on in which the first role does, under all its prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np

from personascope.engines import request_seed
from personascope.mapping._design import Design, Rollout

Kind = Literal["opening", "balanced", "default", "widest"]

ORDER = "balanced rounds (1)"
"""Name of this order in a run's identity."""
ROLES_PER_QUESTION = 20
"""Number of roles that answer a question in the round that first asks it."""
BASELINE = 100
"""Number of the default's responses in the opening that role information is held against, if it can be."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        kind: "opening": what the minimum of a vector needs, of every role. "balanced": the next rollout of
            every role. "widest": that of some roles. "default": one more response of the default to every
            question asked so far, under each of its prompts.
        roles: Names of the roles of a "widest" round.
    """

    kind: Kind
    roles: tuple[str, ...] = ()


class Rounds:
    """The rollouts of a design round by round; the state is how far each role and the default are."""

    def __init__(self, design: Design) -> None:
        """Start before the opening."""
        self.design = design
        self.asked = np.zeros(len(design.roles), np.int64)
        """Number of rollouts taken of each role."""
        self.level = 1
        """Number of responses of the default to a question under one prompt."""
        self._active: dict[int, int] = {}
        """Question number -> responses of the default under one prompt so far."""
        neutral = sum(bool(prompt) for prompt in design.corpus.default_prompts)
        reached = {cell[0] for cells in self._cells for cell in cells[: self.opening]}
        if design.profile.role_information:
            wanted = -(-BASELINE // max(neutral * len(reached), 1))
            self.level = min(wanted, design.profile.default_samples)

    @property
    def opening(self) -> int:
        """Number of rollouts of each role in the opening: enough for a vector."""
        return self.design.profile.min_fully

    @property
    def questions(self) -> int:
        """Number of questions asked so far."""
        return len(self._active)

    @property
    def of_default(self) -> int:
        """Number of responses of the default to each question."""
        return len(self.design.corpus.default_prompts) * self.level

    @cached_property
    def left(self) -> np.ndarray:
        """Number of rollouts of each role in the whole design, [R]."""
        return np.array([len(cells) for cells in self._cells])

    def can(self, kind: Kind) -> bool:
        """Return whether a round of a kind would ask anything."""
        if kind == "default":
            return self.level < self.design.profile.default_samples and bool(self._active)
        return bool((self.asked < self.left).any())

    def cost(self, made: Round) -> int:
        """Return the number of rollouts of a round."""
        if made.kind == "default":
            return len(self._active) * len(self.design.corpus.default_prompts)
        cells = self._next(made)
        return len(cells) + len({cell[0] for _, cell in cells} - set(self._active)) * self.of_default

    def take(self, made: Round) -> tuple[list[Rollout], list[Rollout]]:
        """Return the rollouts of a round, of the default and of the roles, and count them as asked."""
        cells = [] if made.kind == "default" else self._next(made)
        if made.kind == "default":
            self.level += 1
        for role, _ in cells:
            self.asked[role] += 1
        for _, (number, _) in cells:
            self._active.setdefault(number, 0)
        default: list[Rollout] = []
        for number, have in sorted(self._active.items()):
            default += [
                rollout_of(self.design, 0, number, place, sample)
                for place in range(len(self.design.corpus.default_prompts))
                for sample in range(have, self.level)
            ]
            self._active[number] = self.level
        roles = [rollout_of(self.design, role + 1, number, place) for role, (number, place) in cells]
        return sorted(default, key=_place), sorted(
            roles, key=lambda one: (self._rank[one.role], *_place(one))
        )

    def _next(self, made: Round) -> list[tuple[int, tuple[int, int]]]:
        names = set(made.roles)
        count = self.opening if made.kind == "opening" else 1
        return [
            (role, cell)
            for role, entry in enumerate(self.design.roles)
            if made.kind != "widest" or entry.name in names
            for cell in self._cells[role][self.asked[role] : self.asked[role] + count]
        ]

    @cached_property
    def _rank(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.design.groups)}

    @cached_property
    def _cells(self) -> list[list[tuple[int, int]]]:
        """The rollouts of each role in its order: number of the question, and slot of the prompt."""
        design = self.design
        rng = np.random.default_rng(request_seed(design.seed, ORDER))
        ranks = rng.permutation(len(design.roles))
        most = design.n_places
        group = max(1, round(len(design.roles) / (ROLES_PER_QUESTION * most))) * most
        numbers = list(range(len(design.questions)))
        batches = [numbers[start : start + group] for start in range(0, len(numbers), group)]
        blocks = design.n_blocks

        @cache
        def in_slots(places: int) -> list[list[list[int]]]:
            """The questions of each batch and slot, for roles with so many prompts."""
            return [
                [[number for number in batch if number % blocks % places == slot] for slot in range(places)]
                for batch in batches
            ]

        # Shuffled for each class of roles and slot, so that two roles that meet at one question part again.
        places = np.arange(-(-len(ranks) // most))
        shuffled = rng.permuted(np.tile(places, (most, most, 1)), axis=2)
        return [
            list(self._order(int(rank), of_role, in_slots(of_role), shuffled))
            for rank, of_role in zip(ranks, self._places(), strict=True)
        ]

    def _places(self) -> Iterable[int]:
        design = self.design
        for role in design.roles:
            yield len(design.prompts_of(role)) if design.profile.crossed else design.n_places

    def _order(
        self, rank: int, places: int, batches: list[list[list[int]]], shuffled: np.ndarray
    ) -> Iterable[tuple[int, int]]:
        shift = shuffled[rank % len(shuffled)].tolist()
        for turn in range(places if self.design.profile.crossed else 1):
            for visit in range(places * max(len(members) for batch in batches for members in batch)):
                for at, batch in enumerate(batches):
                    slot = (rank + visit + at) % places
                    members = batch[slot]
                    if visit // places < len(members):
                        start = shift[slot][rank // places % len(shift[slot])]
                        number = members[(start + visit // places) % len(members)]
                        yield number, (slot + turn) % places


def _place(rollout: Rollout) -> tuple[int, int, int]:
    return rollout.prompt_index, rollout.question_index, rollout.sample


def rollout_of(design: Design, group: int, number: int, place: int, sample: int = 0) -> Rollout:
    """Return one rollout of a design.

    Args:
        design: Design.
        group: 0 for the default, or 1, 2, ... for a role.
        number: Number of the question among the design's.
        place: Slot of the prompt among the role's, or index of the default's prompt.
        sample: Index of the default's response to the question under the prompt.
    """
    block, name = number % design.n_blocks, design.groups[group]
    fold, question = block, design.questions[number]
    prompts = design.prompts_of(design.roles[group - 1]) if group else ()
    if design.profile.crossed:
        prompt = prompts[place] if group else place
        fold = block * design.n_places + place % design.n_places
    else:
        prompt = prompts[block % design.n_places % len(prompts)] if group else place
    return Rollout(f"{name}/p{prompt}/q{question}/s{sample}", name, prompt, question, sample, fold)
