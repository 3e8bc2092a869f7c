"""Drift baseline: mean and spread of positions in Assistant-like conversations, by reply and token index.

A position is compared with the usual one at the same index: first replies differ from later ones, and the
first tokens of a reply from the rest. Conversations also differ in their overall offset (one topic lies
nearer the default than another). The first few values of a conversation estimate its offset, and the baseline
fits how much of that offset persists in later values.
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
"""Whether a monitor is fed one value per reply ("turn") or one per token."""

Positions = Float[np.ndarray, "turns"] | Sequence[Float[np.ndarray, "tokens"]]
"""A conversation in units of the map: one array of replies ("turn"), or an array for each reply ("token")."""

WARMUPS: dict[Level, int] = {"turn": 3, "token": 64}
"""Default number of first values that estimate a conversation's own offset."""

SAVED_NAMES = {
    "warmup": "anchor",
    "persistence": "carry",
    "residual_sd": "rest",
}  # field names in saved monitors

LEAST = 5
"""Minimum number of conversations behind a mean; neighbouring indices are pooled until they reach it."""

_PRIOR = 10.0  # weight of the common variance, in conversations, when an index's own is shrunk towards it


@dataclass(frozen=True, slots=True)
class MonitorBaseline:
    """Mean and spread of positions by reply and token index, fitted on Assistant-like conversations.

    Attributes:
        level: "turn" or "token".
        by_token: Mean position by the token's index in its reply; the last entry holds for all later tokens.
            (0.0,) at the level of turns.
        by_reply: Offset that the reply's index adds to that mean; the last entry holds for all later replies.
        spread: Standard deviation by token index, or by reply index at the level of turns.
        warmup: Number of first values that estimate a conversation's own offset; 0 to estimate none.
        persistence: Share of the offset that later values are expected to keep, 0 to 1.
        residual_sd: Spread of later values around that expectation, in standard deviations.
        conversations: Number of conversations in the fit.
        fitted_on: Digest of each fitted conversation, so that none of them is used to set a threshold.
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
        """Fit mean and spread by reply and token index.

        Args:
            assistant_like: Conversations that stay near the Assistant. At the level of turns, each is one
                array of positions, NaN for an empty reply. At the level of tokens, each is a list of replies,
                and each reply an array of positions.
            level: "turn" or "token".
            warmup: Number of first values that estimate a conversation's own offset (by default 3 turns, 64
                tokens); 0 compares every conversation with the mean over all.

        Raises:
            DynamicsError: If there are too few conversations, a value is not finite, or all values are equal.
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
        """Return the baseline as JSON values, under the field names of saved monitors."""
        return {SAVED_NAMES.get(name, name): value for name, value in asdict(self).items()}

    def standardiser(self) -> Standardiser:
        """Return a standardiser for the values of one conversation, fed in order."""
        return Standardiser(self)


class Standardiser:
    """Convert one conversation's values to deviations from the baseline, in standard deviations."""

    __slots__ = ("_baseline", "_seen", "_sum")

    def __init__(self, baseline: MonitorBaseline) -> None:
        """Begin a conversation."""
        self._baseline = baseline
        self._seen = 0
        self._sum = 0.0

    @property
    def state(self) -> tuple[int, float]:
        """Number of values of the warmup so far, and their sum."""
        return self._seen, self._sum

    def __call__(self, value: float, reply: int, token: int) -> float:
        """Return the deviation of a value; an empty reply (NaN) gives NaN and does not count."""
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
    """Check that the level is "turn" or "token".

    Raises:
        DynamicsError: If it is neither.
    """
    if level not in WARMUPS:
        raise DynamicsError(f"{level!r} is no level of a monitor", hint='give "turn" or "token"')


def replies_of(positions: Positions, level: Level, name: str) -> list[list[float]]:
    """Return a conversation as one list of values per reply.

    Raises:
        DynamicsError: If the conversation is of the other level, or a value is not finite (an empty reply's
            NaN is allowed at the level of turns).
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
    """Return a digest of a conversation's values."""
    sha = hashlib.blake2b(digest_size=8)
    for reply in replies:
        sha.update(np.array([len(reply), *reply], "<f8").tobytes())
    return sha.hexdigest()


def _table(traces: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all finite values with their reply, token and conversation indices."""
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
    """Return bin edges 0, 1, 2, 3, 4, 6, 8, 12, ... up to ``stop``: fine at a reply's start, coarse later."""
    edges, width = [0, 1, 2, 3], 1
    while edges[-1] < stop:
        edges += [4 * width, 6 * width]
        width *= 2
    return [edge for edge in edges if edge < stop] + [stop]


def _bins(edges: list[int], place: np.ndarray, conversation: np.ndarray) -> list[tuple[int, int]]:
    """Merge neighbouring ranges of indices until at least ``LEAST`` conversations reach each range."""
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
    """Return a value for every index, linearly interpolated between the mean indices of the ranges."""
    middles = [float(_within(place, place, *one).mean()) for one in bins]
    return np.interp(np.arange(math.ceil(middles[-1]) + 1), middles, values)


def _spread(residual: np.ndarray, place: np.ndarray, conversation: np.ndarray, level: Level) -> np.ndarray:
    """Return the standard deviation by index, shrunk towards the common one where conversations are few."""
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
        # Bessel's correction: the mean was fitted on the same conversations.
        own = float((residual[inside] ** 2).mean()) * count / (count - 1)
        found.append(math.sqrt((count * own + _PRIOR * common) / (count + _PRIOR)))
    if level == "token":
        return _smooth(bins, place, found)
    return np.concatenate([np.full(stop - start, sd) for (start, stop), sd in zip(bins, found, strict=True)])


def _persistence(traces: list[np.ndarray], warmup: int) -> tuple[float, float]:
    """Return the slope of later values on the mean of the warmup, and the spread around that line."""
    pairs = [(z[:warmup].mean(), z[warmup:]) for z in traces if len(z) > warmup] if warmup else []
    below = sum(first**2 * len(later) for first, later in pairs)
    if len(pairs) < LEAST or not below > 0:
        return 0.0, 1.0
    persistence = float(np.clip(sum(first * later.sum() for first, later in pairs) / below, 0.0, 1.0))
    left = np.concatenate([later - persistence * first for first, later in pairs])
    return persistence, max(float(np.sqrt((left**2).mean())), 1e-6)
