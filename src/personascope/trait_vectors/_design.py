"""The design of a trait run's rollouts: both poles of every pair of prompts over the same questions.

A pair is one pair of prompts and one question: two responses that differ in the pole alone. As in a map, a
trait's questions are divided among its pairs of prompts, and each is asked under one of them. A crossed
design asks every question under every pair. Pairs are summed in folds, one block of questions and one pair of
prompts each, so that the statistics can resample either.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from personascope.chat import Conversation, Message
from personascope.corpus import POLES, Question, TraitEntry, TraitSet
from personascope.engines import Capture, EngineInfo, Request, request_seed
from personascope.errors import CorpusError, UsageError
from personascope.mapping import draw_entries, draw_from_bank
from personascope.space import FoldDesign
from personascope.trait_vectors._profile import TraitProfile

DESIGN = "pairs of opposite prompts (1)"
"""Name of this design in the records of traits."""

MAX_FOLDS = 12
"""Maximum number of folds in which the pairs of a trait are summed."""

UNIT_ROLLOUTS = 512
UNIT_BYTES = 256 * 2**20
"""Upper limits of a unit: number of rollouts, and bytes of their pooled activations."""


@dataclass(frozen=True, slots=True)
class TraitRollout:
    """One response to generate.

    Attributes:
        id: Identifier, ``trait|{name}/{pole}/p{prompt_index}/q{question_index}/s{sample}``.
        trait: Name of the trait.
        pole: "+" or "-".
        prompt_index: Index of the pair of prompts among the trait's.
        question_index: Index of the question in the bank, or in the trait's own questions.
        sample: Index among rollouts with the same trait, pole, prompt and question.
        fold: Fold in which the pair is summed.
    """

    id: str
    trait: str
    pole: str
    prompt_index: int
    question_index: int
    sample: int
    fold: int

    @property
    def pair(self) -> str:
        """Identifier of the pair, the same for both poles."""
        return f"{self.trait}/p{self.prompt_index}/q{self.question_index}/s{self.sample}"


@dataclass(frozen=True)
class TraitDesign:
    """The rollouts of a trait run in order; a pair's two stand next to each other. Created lazily.

    Attributes:
        set_name: Name of the set of traits.
        digest_of_texts: Digest of the sampled traits' texts and of the questions that are asked.
        profile: Profile of the design.
        seed: Random seed of traits, prompts, questions, the kept sample, and token sampling.
        traits: Sampled traits, in the set's order.
        bank: Bank of questions; empty if every trait is asked its own.
        questions: Indices of the sampled questions in the bank.
        n_places: Number of prompt slots.
        n_blocks: Number of blocks that the questions are divided into.
        unit_size: Maximum number of rollouts in a unit, which is even.
    """

    set_name: str
    digest_of_texts: str
    profile: TraitProfile
    seed: int
    traits: tuple[TraitEntry, ...]
    bank: tuple[Question, ...]
    questions: tuple[int, ...]
    n_places: int
    n_blocks: int
    unit_size: int

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
    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the rollouts and their judging."""
        value = {
            "design": DESIGN,
            "texts": self.digest_of_texts,
            "profile": self.profile.record,
            "seed": self.seed,
            "traits": [trait.name for trait in self.traits],
            "questions": list(self.questions),
            "n_places": self.n_places,
            "n_blocks": self.n_blocks,
            "unit_size": self.unit_size,
        }
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    @property
    def n_questions(self) -> int:
        """Number of questions that a trait is asked, at most."""
        return max((len(self.questions_of(trait)) for trait in self.traits), default=0)

    @cached_property
    def _by_name(self) -> dict[str, TraitEntry]:
        return {trait.name: trait for trait in self.traits}

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate((self.size(index) for index in range(len(self.traits))), initial=0))

    @cached_property
    def _unit_starts(self) -> tuple[int, ...]:
        counts = (-(-self.size(index) // self.unit_size) for index in range(len(self.traits)))
        return tuple(accumulate(counts, initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[TraitRollout]:
        for index in range(len(self.traits)):
            yield from self.trait_rollouts(index)

    @property
    def n_units(self) -> int:
        """Number of units of work; a unit holds rollouts of one trait."""
        return self._unit_starts[-1]

    def trait(self, name: str) -> TraitEntry:
        """Return a trait by its name."""
        return self._by_name[name]

    def questions_of(self, trait: TraitEntry) -> tuple[int, ...]:
        """Return the indices of a trait's questions, in the bank or in its own list."""
        if not self.profile.own_questions:
            return self.questions
        own = range(len(trait.questions))
        count = self.profile.questions
        if count is None or count >= len(own):
            return tuple(own)
        rng = np.random.default_rng(request_seed(self.seed, f"questions of {trait.name}"))
        return tuple(sorted(int(index) for index in rng.permutation(len(own))[:count]))

    def prompts_of(self, trait: TraitEntry) -> tuple[int, ...]:
        """Return the indices of a trait's sampled pairs of prompts, in the order of their slots."""
        wanted = self.profile.prompts
        if wanted is None or wanted >= len(trait.pairs):
            return tuple(range(len(trait.pairs)))
        rng = np.random.default_rng(request_seed(self.seed, f"pairs of {trait.name}"))
        return tuple(int(index) for index in rng.permutation(len(trait.pairs))[:wanted])

    def size(self, index: int) -> int:
        """Return the number of rollouts of a trait, both poles together."""
        trait = self.traits[index]
        prompts = len(self.prompts_of(trait)) if self.profile.crossed else 1
        return len(POLES) * prompts * len(self.questions_of(trait))

    def trait_rollouts(self, index: int) -> list[TraitRollout]:
        """Create the rollouts of a trait: pair after pair, the positive pole first."""
        trait = self.traits[index]
        prompts = self.prompts_of(trait)
        places = self.n_places
        cells: list[tuple[int, int, int]] = []
        for number, question in enumerate(self.questions_of(trait)):
            block = number % self.n_blocks
            if self.profile.crossed:
                cells += [
                    (prompt, question, block * places + place % places)
                    for place, prompt in enumerate(prompts)
                ]
            else:
                cells.append((prompts[block % places % len(prompts)], question, block))
        # Keep requests that share a prompt together.
        cells.sort()
        name = trait.name
        return [
            TraitRollout(
                f"trait|{name}/{pole}/p{prompt}/q{question}/s0", name, pole, prompt, question, 0, fold
            )
            for prompt, question, fold in cells
            for pole in POLES
        ]

    def unit(self, index: int) -> list[TraitRollout]:
        """Create the rollouts of a unit of work."""
        trait = int(np.searchsorted(self._unit_starts, index, side="right")) - 1
        start = (index - self._unit_starts[trait]) * self.unit_size
        return self.trait_rollouts(trait)[start : start + self.unit_size]

    def units_of(self, index: int) -> range:
        """Return the units that hold rollouts of a trait."""
        return range(self._unit_starts[index], self._unit_starts[index + 1])

    def spread(self, count: int) -> list[TraitRollout]:
        """Return about ``count`` rollouts (or all if fewer), evenly spaced over all rollouts."""
        total = len(self)
        count = min(total, count)
        chosen: list[TraitRollout] = []
        for place in ((2 * number + 1) * total // (2 * count) for number in range(count)):
            trait = int(np.searchsorted(self._starts, place, side="right")) - 1
            chosen.append(self.trait_rollouts(trait)[place - self._starts[trait]])
        return chosen

    def system_prompt(self, rollout: TraitRollout) -> str:
        """Return the system prompt of a rollout."""
        return self._by_name[rollout.trait].pairs[rollout.prompt_index].at(rollout.pole)

    def question(self, rollout: TraitRollout) -> str:
        """Return the question of a rollout."""
        if self.profile.own_questions:
            return self._by_name[rollout.trait].questions[rollout.question_index]
        return self.bank[rollout.question_index].text

    def conversation(self, rollout: TraitRollout) -> Conversation:
        """Return the prompt of a rollout."""
        return (Message("system", self.system_prompt(rollout)), Message("user", self.question(rollout)))

    def request(self, rollout: TraitRollout) -> Request:
        """Return the engine request of a rollout, with pooled activations of all layers."""
        return Request(
            id=rollout.id,
            prompt=self.conversation(rollout),
            sampling=self.profile.sampling,
            capture=Capture(),
            seed=self.seed,
            tokens=self.profile.tokens,
        )

    def kept(self) -> frozenset[str] | None:
        """Return the ids of the rollouts whose activations are kept; None for all rollouts."""
        if self.profile.keep == "all" or self.profile.keep >= len(self):
            return None
        rng = np.random.default_rng(request_seed(self.seed, "kept sample of traits"))
        places = set(rng.choice(len(self), self.profile.keep, replace=False).tolist())
        return frozenset(rollout.id for place, rollout in enumerate(self) if place in places)


def build_trait_design(
    traits: TraitSet,
    bank: Sequence[Question],
    profile: TraitProfile,
    seed: int,
    *,
    info: EngineInfo | None = None,
    max_folds: int = MAX_FOLDS,
) -> TraitDesign:
    """Create the design of a trait run.

    Args:
        traits: Traits to sample from.
        bank: Bank of questions, such as a corpus's; the set's own questions take its place if it has any.
        profile: Profile: sizes and sampling options.
        seed: Random seed.
        info: Engine information, by whose shape units are bounded; without it they are bounded by their
            number of rollouts alone.
        max_folds: Maximum number of folds in which the pairs of every trait are summed.

    Raises:
        UsageError: If the bank has too few questions, or a trait has none of its own where these are asked.
        CorpusError: If there are no traits, or a trait's name is no valid file name.
    """
    for trait in traits.traits:
        if not re.fullmatch(r"\w[\w.-]*", trait.name):
            raise CorpusError(
                f"{trait.name!r} cannot be the name of a trait", hint='use letters, digits, "_", "-" and "."'
            )
    drawn = draw_entries(traits.traits, profile.traits, seed, "traits")
    if not drawn:
        raise CorpusError(f"{traits.name!r} holds no traits", hint="load a folder with traits")
    asked: tuple[int, ...] = ()
    pool = tuple(traits.questions or bank)
    if profile.own_questions:
        pool = ()
        lacking = next((trait.name for trait in drawn if len(trait.questions) < 2), None)
        if lacking is not None:
            raise UsageError(
                f"the trait {lacking!r} has no questions of its own", hint="leave out --own-questions"
            )
    else:
        asked = draw_from_bank(pool, profile.questions, seed, who=profile.name)
    n_questions = min(
        (len(asked) if not profile.own_questions else len(trait.questions) for trait in drawn), default=0
    )
    most = max(len(trait.pairs) for trait in drawn)
    places = most if profile.prompts is None else min(profile.prompts, most)
    if profile.crossed:
        # At least two blocks of questions, so that questions can be resampled.
        places = max(1, min(places, max_folds // 2))
        n_blocks = max(1, max_folds // places)
    else:
        # The same number of blocks per slot, so that every pair of prompts gets as many questions.
        places = max(1, min(places, max_folds, n_questions))
        n_blocks = max(1, min(max_folds, n_questions) // places) * places
    unit = (
        UNIT_ROLLOUTS
        if info is None
        else min(UNIT_ROLLOUTS, UNIT_BYTES // (info.n_layers * info.d_model * 4))
    )
    texts = {
        "traits": [trait_texts(trait) for trait in drawn],
        "questions": [pool[index].text for index in asked],
    }
    return TraitDesign(
        traits.name,
        hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest(),
        profile,
        seed,
        drawn,
        pool,
        asked,
        places,
        min(n_blocks, n_questions),
        max(2, unit - unit % 2),
    )


def trait_texts(trait: TraitEntry) -> list[object]:
    """Return the texts of a trait that make up its requests and their judging."""
    judged = trait.description if trait.eval_prompt is None else trait.eval_prompt
    pairs = [[pair.positive, pair.negative] for pair in trait.pairs]
    return [trait.name, pairs, list(trait.questions), judged]
