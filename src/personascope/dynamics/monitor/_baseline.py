"""Baseline for drift: mean and spread of Assistant-like conversations by position.

A position is read against what is usual at its place: first replies differ from later ones, and the
first tokens of a reply from those inside it. Conversations also lie at levels of their own (one topic
is nearer the default than another); the first few values of a conversation show where it lies, and how
much of that persists in the later values is fitted too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from personascope.errors import DynamicsError

Level = Literal["turn", "token"]
"""Whether a monitor is fed one value a reply, or one a token."""

Positions = Float[np.ndarray, "turns"] | Sequence[Float[np.ndarray, "tokens"]]
"""A conversation in units of the map: one array of replies ("turn"), or an array for each reply ("token")."""

WARMUPS: dict[Level, int] = {"turn": 3, "token": 64}
"""First values of a conversation that show its own level, by default."""

_SAVED = {"warmup": "anchor", "persistence": "carry", "residual_sd": "rest"}  # names in saved monitors

LEAST = 5
"""Conversations that a mean of its own needs; places with fewer are taken together with their neighbours."""

_PRIOR = 10.0  # conversations that the common spread counts for beside a place's own


@dataclass(frozen=True, slots=True)
class MonitorBaseline:
    """Mean and spread of positions by place, fitted on Assistant-like conversations.

    Attributes:
        level: "turn" or "token".
        by_token: Mean position by the token's number in its reply; the last one stands for all later
            ones. [0] at the level of turns.
        by_reply: What the reply's number adds to that mean; the last one stands for all later ones.
        spread: Standard deviation by token number, or by reply number at the level of turns.
        warmup: First values of a conversation that show its own level; 0 for none.
        persistence: Share of their mean deviation that later values are expected to keep, 0 to 1.
        residual_sd: Spread of later values around that expectation, in standard deviations.
        conversations: Number of conversations that it was fitted on.
        fitted_on: A digest of each of them, so that none of them sets a threshold as well.
    """

    level: Level
    by_token: tuple[float, ...]
    by_reply: tuple[float, ...]
    spread: tuple[float, ...]
    warmup: int
    persistence: float
    residual_sd: float
    conversations: int
    fitted_on: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, assistant_like: Sequence[Positions], level: Level, *, warmup: int | None = None
    ) -> MonitorBaseline:
        """Fit mean and spread by place.

        Args:
            assistant_like: Conversations that stay with the Assistant. At the level of turns one array
                of positions each, NaN for an empty reply; at the level of tokens a list of replies each,
                every one an array of positions.
            level: "turn" or "token".
            warmup: First values of a conversation that show its own level (3 turns, 64 tokens); 0
                measures every conversation against the mean of all.

        Raises:
            DynamicsError: If there are too few conversations, a value is not finite, or all are equal.
        """
        check_level(level)
        warmup = WARMUPS[level] if warmup is None else warmup
        if warmup < 0:
            raise DynamicsError(f"the warmup is {warmup} values long", hint="give 0 or more")
        traces = [replies_of(one, level, f"conversation {i}") for i, one in enumerate(assistant_like)]
        values, reply, token, conversation = _table(traces)
        found = len(np.unique(conversation))
        if found < LEAST:
            raise DynamicsError(
                f"mean and spread of Assistant-like conversations were asked of {found} with a reply",
                hint=f"give at least {LEAST}, better 20",
            )
        by_token = np.zeros(1)
        if level == "token":
            bins = _bins(_steps(int(token.max()) + 1), token, conversation)
            by_token = _smooth(bins, token, [_within(values, token, *one).mean() for one in bins])
        residual = values - _at(by_token, token)
        bins = _bins(list(range(int(reply.max()) + 2)), reply, conversation)
        by_reply = np.concatenate(
            [np.full(stop - start, _within(residual, reply, start, stop).mean()) for start, stop in bins]
        )
        residual = residual - _at(by_reply, reply)
        place = reply if level == "turn" else token
        spread = _spread(residual, place, conversation, level)
        z = residual / _at(spread, place)
        persistence, residual_sd = _persistence(
            [z[conversation == one] for one in np.unique(conversation)], warmup
        )
        return cls(
            level,
            tuple(by_token.tolist()),
            tuple(by_reply.tolist()),
            tuple(spread.tolist()),
            warmup,
            persistence,
            residual_sd,
            found,
            tuple(digest_of(one) for one in traces),
        )

    def record(self) -> dict[str, Any]:
        """Return it as JSON values, under the names that saved monitors have for them."""
        return {_SAVED.get(name, name): value for name, value in asdict(self).items()}

    def standardiser(self) -> Standardiser:
        """Return what turns the values of one conversation, fed in order, into standard deviations."""
        return Standardiser(self)


class Standardiser:
    """Deviations of one conversation's values from what is usual, in standard deviations."""

    __slots__ = ("_baseline", "_seen", "_sum")

    def __init__(self, baseline: MonitorBaseline) -> None:
        """Begin a conversation."""
        self._baseline = baseline
        self._seen = 0
        self._sum = 0.0

    def __call__(self, value: float, reply: int, token: int) -> float:
        """Return the deviation of a value; NaN, and nothing is counted, for an empty reply."""
        of = self._baseline
        if value != value:
            return value
        place = reply if of.level == "turn" else token
        mean = of.by_token[min(token, len(of.by_token) - 1)] + of.by_reply[min(reply, len(of.by_reply) - 1)]
        z = (value - mean) / of.spread[min(place, len(of.spread) - 1)]
        if self._seen < of.warmup:
            self._seen += 1
            self._sum += z
            return z
        return (z - of.persistence * self._sum / of.warmup) / of.residual_sd if of.warmup else z


def check_level(level: str) -> None:
    """Refuse what is neither "turn" nor "token".

    Raises:
        DynamicsError: If it is.
    """
    if level not in WARMUPS:
        raise DynamicsError(f"{level!r} is no level of a monitor", hint='give "turn" or "token"')


def replies_of(positions: Positions, level: Level, name: str) -> list[list[float]]:
    """Return a conversation as one list of values for each reply.

    Raises:
        DynamicsError: If it is of the other level, or a value is not finite (an empty reply's NaN
            is allowed at the level of turns).
    """
    if level == "turn":
        values = np.asarray(positions, dtype=object) if isinstance(positions, list | tuple) else positions
        if np.ndim(values) != 1 or any(np.ndim(one) for one in values):
            raise DynamicsError(
                f"{name} is not one array of positions", hint="give a number a reply, or say level token"
            )
        flat = np.asarray(positions, dtype=float)
        if np.isinf(flat).any():
            raise DynamicsError(f"{name} has an infinite position", hint="find where it was projected")
        return [[value] for value in flat.tolist()]
    replies: list[list[float]] = []
    for number, one in enumerate(positions):
        array = np.asarray(one, dtype=float)
        if array.ndim != 1:
            raise DynamicsError(
                f"reply {number} of {name} is not an array of positions",
                hint="give a list of replies, each an array with a position for each token",
            )
        if not np.isfinite(array).all():
            raise DynamicsError(
                f"reply {number} of {name} has a position of {array[~np.isfinite(array)][0]}",
                hint="find where it was projected; a token always has a position",
            )
        replies.append(array.tolist())
    return replies


def digest_of(replies: list[list[float]]) -> str:
    """Return a digest that tells conversations apart."""
    sha = hashlib.blake2b(digest_size=8)
    for reply in replies:
        sha.update(np.array([len(reply), *reply], "<f8").tobytes())
    return sha.hexdigest()


def _table(traces: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all finite values with the numbers of their reply, token and conversation."""
    rows = [
        (value, reply, token, conversation)
        for conversation, replies in enumerate(traces)
        for reply, values in enumerate(replies)
        for token, value in enumerate(values)
        if math.isfinite(value)
    ]
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return table[:, 0], table[:, 1].astype(int), table[:, 2].astype(int), table[:, 3].astype(int)


def _steps(stop: int) -> list[int]:
    """Return 0, 1, 2, 3, 4, 6, 8, 12, 16, ... up to ``stop``: fine where a reply begins, coarse later."""
    edges, width = [0, 1, 2, 3], 1
    while edges[-1] < stop:
        edges += [4 * width, 6 * width]
        width *= 2
    return [edge for edge in edges if edge < stop] + [stop]


def _bins(edges: list[int], place: np.ndarray, conversation: np.ndarray) -> list[tuple[int, int]]:
    """Return ranges of places that at least ``LEAST`` conversations reach, neighbours taken together."""
    bins: list[tuple[int, int]] = []
    start = edges[0]
    for stop in edges[1:]:
        inside = (place >= start) & (place < stop)
        if len(np.unique(conversation[inside])) >= LEAST:
            bins.append((start, stop))
            start = stop
    if not bins:
        return [(edges[0], edges[-1])]
    return [*bins[:-1], (bins[-1][0], edges[-1])]


def _within(values: np.ndarray, place: np.ndarray, start: int, stop: int) -> np.ndarray:
    return values[(place >= start) & (place < stop)]


def _at(table: np.ndarray, place: np.ndarray) -> np.ndarray:
    return table[np.minimum(place, len(table) - 1)]


def _smooth(bins: list[tuple[int, int]], place: np.ndarray, values: list[float]) -> np.ndarray:
    """Return a value for every place: straight lines between the middles of what the ranges hold."""
    middles = [float(_within(place, place, *one).mean()) for one in bins]
    return np.interp(np.arange(math.ceil(middles[-1]) + 1), middles, values)


def _spread(residual: np.ndarray, place: np.ndarray, conversation: np.ndarray, level: Level) -> np.ndarray:
    """Return the standard deviation by place, drawn towards the common one where conversations are few."""
    common = float((residual**2).mean())
    if not common > 0:
        raise DynamicsError(
            "the positions of the Assistant-like conversations do not vary", hint="give real conversations"
        )
    last = int(place.max()) + 1
    bins = _bins(list(range(last + 1)) if level == "turn" else _steps(last), place, conversation)
    found: list[float] = []
    for start, stop in bins:
        inside = (place >= start) & (place < stop)
        count = len(np.unique(conversation[inside]))
        # The mean of the place was fitted on the same conversations.
        own = float((residual[inside] ** 2).mean()) * count / (count - 1)
        found.append(math.sqrt((count * own + _PRIOR * common) / (count + _PRIOR)))
    if level == "token":
        return _smooth(bins, place, found)
    return np.concatenate([np.full(stop - start, sd) for (start, stop), sd in zip(bins, found, strict=True)])


def _persistence(traces: list[np.ndarray], warmup: int) -> tuple[float, float]:
    """Return the slope of later values on the mean of the first ones, and the spread around it."""
    pairs = [(z[:warmup].mean(), z[warmup:]) for z in traces if len(z) > warmup] if warmup else []
    below = sum(first**2 * len(later) for first, later in pairs)
    if len(pairs) < LEAST or not below > 0:
        return 0.0, 1.0
    persistence = float(np.clip(sum(first * later.sum() for first, later in pairs) / below, 0.0, 1.0))
    left = np.concatenate([later - persistence * first for first, later in pairs])
    return persistence, max(float(np.sqrt((left**2).mean())), 1e-6)
