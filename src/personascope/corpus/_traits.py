"""Define traits: a description, pairs of opposite system prompts, and how a response is judged."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rapidfuzz import process

from personascope.corpus._types import Question
from personascope.errors import CorpusError, UsageError

PAIRS_PER_TRAIT = 5
"""Number of pairs of system prompts of a trait (paper, section 2)."""

POLES = ("+", "-")
"""The two poles of a trait, as they stand in request ids: positive and negative."""


@dataclass(frozen=True)
class TraitPair:
    """Two system prompts that differ in the trait: one asks for it, the other for its opposite."""

    positive: str
    negative: str

    def at(self, pole: str) -> str:
        """Return the prompt of a pole, "+" or "-"."""
        return self.positive if pole == POLES[0] else self.negative


@dataclass(frozen=True)
class TraitEntry:
    """One trait.

    Attributes:
        name: Name of the trait, used in request ids and file names.
        group: Kind of trait (``style``, ``social`` ...); empty where the format has none.
        description: Description in one line; empty where the format has none.
        pairs: Pairs of system prompts, in order; a pair's index is part of a request's identity.
        eval_prompt: Judge prompt with ``{question}`` and ``{answer}`` that asks for a number from 0 to 100,
            or None for the judge's general rubric.
        questions: Questions that the trait's file brings along; empty for none.
    """

    name: str
    group: str
    description: str
    pairs: tuple[TraitPair, ...]
    eval_prompt: str | None = None
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class TraitSet:
    """Traits, and the questions that come with them.

    Attributes:
        name: Name of the set.
        traits: Traits, which the loaders sort by name.
        questions: Questions for all traits, in file order; empty where the set has none of its own.
        source: ``"builtin"``, or the file or folder that it was read from.

    Raises:
        CorpusError: If two traits, or two questions, share a name.
    """

    name: str
    traits: tuple[TraitEntry, ...]
    questions: tuple[Question, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse names that would give two requests one identity."""
        for kind, names in (
            ("trait", [trait.name for trait in self.traits]),
            ("question id", [question.id for question in self.questions]),
        ):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise CorpusError(
                    f"traits {self.name!r}: {kind} {twice[0]!r} occurs {names.count(twice[0])} times",
                    hint=f"rename or remove all but one {kind} {twice[0]!r}",
                )

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, sorted."""
        return tuple(sorted({trait.group for trait in self.traits if trait.group}))

    @property
    def requests_digest(self) -> str:
        """SHA-256 (hex) of all that changes a request, and of nothing else.

        It covers names, pairs and questions, in order. It leaves out groups, descriptions, question ids, and
        what only the judge reads. The same texts have the same digest in both formats.
        """
        return _sha256(self._requests())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that changes a request or its judging.

        Beyond ``requests_digest`` it covers each trait's judge prompt or, where it has none, its description,
        which the general rubric quotes.
        """
        judged = [[t.description if t.eval_prompt is None else "", t.eval_prompt] for t in self.traits]
        return _sha256({**self._requests(), "judging": judged})

    def _requests(self) -> dict[str, object]:
        return {
            "traits": [
                [trait.name, [[pair.positive, pair.negative] for pair in trait.pairs], list(trait.questions)]
                for trait in self.traits
            ],
            "questions": [question.text for question in self.questions],
        }

    def trait(self, name: str) -> TraitEntry:
        """Return the trait called ``name``.

        Raises:
            UsageError: If there is no such trait; the message names the nearest ones.
        """
        for entry in self.traits:
            if entry.name == name:
                return entry
        known = [*(trait.name for trait in self.traits), *self.groups]
        near = [str(found[0]) for found in process.extract(name, known, limit=3)]
        raise UsageError(
            f"{self.name!r} has no trait or group {name!r} (it has {len(self.traits)} traits)",
            hint=f"did you mean {', '.join(near)}?" if near else "load a folder with traits",
        )

    def select(self, names: Sequence[str]) -> TraitSet:
        """Return the set with the named traits and groups alone.

        Raises:
            UsageError: If a name is neither a trait's nor a group's; the message names the nearest ones.
        """
        chosen: set[str] = set()
        for name in names:
            members = {trait.name for trait in self.traits if trait.group == name}
            chosen |= members or {self.trait(name).name}
        return replace(self, traits=tuple(trait for trait in self.traits if trait.name in chosen))


def _sha256(content: dict[str, object]) -> str:
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
