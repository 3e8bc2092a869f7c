"""Alarm thresholds with a bounded false-alarm rate, by split conformal prediction.

The threshold is the ceil((n + 1)(1 - a))-th smallest of the n calibration conversations' maximum statistics.
Nothing is assumed about the distribution or autocorrelation of the noise, because a whole conversation is one
draw.

The guarantee: a new conversation that is exchangeable with the calibration conversations, its length
included, raises an alarm within the horizon with probability at most a. The probability is also over the draw
of the calibration conversations. For the given set, the rate lies in ``Calibration.rate_range``. Nothing is
guaranteed beyond the horizon, or for conversations of another kind. If all calibration conversations reach
the horizon, the guarantee also holds for a new conversation that ends early.

Mean and spread are fitted on other conversations than those that set the threshold (a split, not
cross-conformal). The fit needs few conversations, and a split bounds the rate by a where cross-conformal only
bounds it by 2a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy

from personascope.errors import DynamicsError


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a threshold was set.

    Attributes:
        false_alarms: Target share of Assistant-like conversations that raise an alarm.
        n: Number of calibration conversations.
        rank: Rank of the threshold among their maximum statistics, from the smallest.
        horizon: Number of turns or tokens within which the rate holds.
        reached: Number of calibration conversations that are at least that long.
    """

    false_alarms: float
    n: int
    rank: int
    horizon: int
    reached: int

    def rate_range(self, level: float = 0.9) -> tuple[float, float]:
        """Return the central range of the false-alarm rate over calibrations like this one.

        Over many calibrations with n conversations, the rate is distributed as Beta(n + 1 - rank, rank) if
        the statistic has no ties, with a mean of at most ``false_alarms``. The range leaves out (1 - level) /
        2 on each side.
        """
        tail = (1 - level) / 2
        low, high = scipy.special.betaincinv(self.n + 1 - self.rank, self.rank, [tail, 1 - tail])
        return float(low), float(high)


def check_rate(n: int, false_alarms: float) -> int:
    """Return the rank of the threshold among the maximum statistics of n calibration conversations.

    Raises:
        DynamicsError: If the rate is not between 0 and 1, or too low for n conversations.
    """
    if not 0 < false_alarms < 1:
        raise DynamicsError(
            f"a false-alarm rate of {false_alarms} was asked for", hint="give a share between 0 and 1"
        )
    # Guard against rounding of (n + 1) * (1 - a) to just above an integer.
    rank = math.ceil((n + 1) * (1 - false_alarms) - 1e-9)
    if rank > n:
        raise DynamicsError(
            f"{n} calibration conversations cannot show a false-alarm rate of {false_alarms:g}",
            hint=f"give {math.ceil(1 / false_alarms - 1e-9) - 1} or more, or allow a higher rate",
        )
    return rank


def conformal_threshold(
    statistics: Sequence[Sequence[float]], false_alarms: float, horizon: int | None
) -> tuple[float, Calibration]:
    """Return the threshold and its calibration.

    Args:
        statistics: Statistic of each calibration conversation after each of its values.
        false_alarms: Target share of such conversations that raise an alarm.
        horizon: Number of values within which the rate must hold; by default the longest conversation.

    Raises:
        DynamicsError: If there are too few conversations for the rate, or too many have no finite statistic.
    """
    n = len(statistics)
    rank = check_rate(n, false_alarms)
    lengths = list(map(len, statistics))
    if not min(lengths):
        raise DynamicsError(
            f"calibration conversation {lengths.index(0)} holds no position",
            hint="leave out those without a reply",
        )
    horizon = max(lengths) if horizon is None else horizon
    if horizon < 1:
        raise DynamicsError(f"a horizon of {horizon} values was asked for", hint="give 1 or more")
    greatest = sorted(max(one[:horizon]) for one in statistics)
    threshold = greatest[rank - 1]
    if not math.isfinite(threshold):
        short = sum(value == -math.inf for value in greatest)
        raise DynamicsError(
            f"{short} of {n} calibration conversations are shorter than the rule's window",
            hint="give longer conversations or a smaller window",
        )
    reached = sum(length >= horizon for length in lengths)
    return threshold, Calibration(false_alarms, n, rank, horizon, reached)
