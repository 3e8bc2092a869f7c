"""Stratified sampling of roles and questions from a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from personascope.corpus import PERSONAL, Corpus, Question, RoleEntry
from personascope.engines import request_seed
from personascope.errors import UsageError
from personascope.mapping._profile import Profile


class _Grouped(Protocol):
    @property
    def group(self) -> str: ...


Entry = TypeVar("Entry", bound=_Grouped)


def draw_roles(roles: Sequence[RoleEntry], count: int | None, seed: int) -> tuple[RoleEntry, ...]:
    """Sample roles in proportion to their groups; return all if there are no more than ``count``."""
    return draw_entries(roles, count, seed, "roles")


def draw_entries(roles: Sequence[Entry], count: int | None, seed: int, name: str) -> tuple[Entry, ...]:
    """Sample entries of a corpus in proportion to their groups; return all if no more than ``count``.

    Args:
        roles: Entries to sample from.
        count: Number of entries; None for all.
        seed: Random seed of the run.
        name: Name of the draw, which belongs to its seed.
    """
    if count is None or count >= len(roles):
        return tuple(roles)
    rng = np.random.default_rng(request_seed(seed, name))
    chosen: set[int] = set()
    groups = sorted({role.group for role in roles})
    shares = _shares({group: sum(role.group == group for role in roles) for group in groups}, count, rng)
    for group in groups:
        members = [index for index, role in enumerate(roles) if role.group == group]
        chosen.update(rng.choice(members, shares[group], replace=False).tolist())
    return tuple(roles[index] for index in sorted(chosen))


def draw_questions(corpus: Corpus, profile: Profile, seed: int) -> tuple[int, ...]:
    """Sample questions as `draw_from_bank` does; return corpus indices.

    Raises:
        UsageError: If the corpus has no question of a kind, or too few questions in total.
    """
    return draw_from_bank(corpus.questions, profile.questions, seed, kinds=profile.kinds, who=profile.name)


def draw_from_bank(
    questions: Sequence[Question],
    count: int | None,
    seed: int,
    *,
    kinds: Sequence[str] | None = None,
    who: str,
) -> tuple[int, ...]:
    """Sample questions in proportion to their kinds, spread evenly over areas; return their indices.

    Args:
        questions: Bank of questions.
        count: Number of questions; None for all of the kinds.
        seed: Random seed of the run.
        kinds: Kinds of questions to sample from; None for all but the personal ones.
        who: Name of the profile that asks, for messages.

    Raises:
        UsageError: If the bank has no question of a kind, or too few questions in total.
    """
    known = {question.kind for question in questions}
    if kinds is None:
        wanted = known - {PERSONAL} or known
    else:
        wanted = set(kinds)
        unknown = sorted(wanted - known)
        if unknown:
            there = ", ".join(sorted(filter(None, known))) or "no kinds"
            raise UsageError(
                f"the corpus has no questions of the kind {unknown[0]!r}", hint=f"it has {there}"
            )
    pool = [index for index, question in enumerate(questions) if question.kind in wanted]
    count = len(pool) if count is None else count
    if count > len(pool):
        raise UsageError(
            f"the profile {who} asks {count} questions, the corpus has {len(pool)}"
            + (
                f" of its {len(questions)} of the kinds {', '.join(sorted(wanted))}"
                if known != wanted
                else ""
            ),
            hint="ask fewer questions, or add some to the corpus",
        )
    by_kind: dict[str, list[int]] = {}
    for index in pool:
        by_kind.setdefault(questions[index].kind, []).append(index)
    rng = np.random.default_rng(request_seed(seed, "questions"))
    shares = _shares({kind: len(members) for kind, members in sorted(by_kind.items())}, count, rng)
    used: Counter[str] = Counter()
    drawn: list[int] = []
    for kind, share in shares.items():
        left = rng.permutation(by_kind[kind]).tolist()
        for _ in range(share):
            best = min(left, key=lambda index: used[_area(questions[index])])
            left.remove(best)
            used[_area(questions[best])] += 1
            drawn.append(best)
    return tuple(drawn)


def _area(question: Question) -> str:
    return question.area or question.id


def _shares(sizes: dict[str, int], count: int, rng: np.random.Generator) -> dict[str, int]:
    """Divide ``count`` in proportion to sizes by the largest-remainder method.

    Ties are broken at random. No share exceeds its size.
    """
    total = sum(sizes.values())
    exact = {name: count * size / total for name, size in sizes.items()}
    shares = {name: int(value) for name, value in exact.items()}
    names = [list(sizes)[place] for place in rng.permutation(len(sizes))]
    names.sort(key=lambda name: shares[name] - exact[name])
    for name in names[: count - sum(shares.values())]:
        shares[name] += 1
    return shares
