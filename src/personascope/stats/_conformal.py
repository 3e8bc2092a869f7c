"""Setting a threshold so that few Assistant-like conversations raise an alarm: split conformal prediction.

The greatest statistic of each of n calibration conversations is taken, and the threshold is the
ceil((n + 1)(1 - a))-th smallest of them. Nothing is assumed about noise, its distribution or its
autocorrelation: a whole conversation is one draw.

What that guarantees: a new conversation that could as well have been one of the calibration
conversations (exchangeable with them, its length included) raises an alarm within the horizon with
probability a at most. The probability is over the draw of the calibration conversations too; for the
set at hand the rate lies in ``Calibration.rate_range``. Nothing is guaranteed beyond the horizon, nor
for conversations of another kind. Where all calibration conversations reach the horizon, a new one may
be ended early by anyone and the guarantee stands.

Mean and spread come from conversations other than those that set the threshold (a split, not
cross-conformal): they need few, and a split keeps the rate at a where cross-conformal only keeps it at 2a.
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
        false_alarms: Share of Assistant-like conversations that may raise an alarm.
        n: Calibration conversations.
        rank: Which of their greatest statistics, counted from the smallest, is the threshold.
        horizon: Values of a conversation, turns or tokens, within which the rate holds.
        reached: Calibration conversations that are at least that long.
    """

    false_alarms: float
    n: int
    rank: int
    horizon: int
    reached: int

    def rate_range(self, level: float = 0.9) -> tuple[float, float]:
        """Return where the false-alarm rate lies, given that these were the calibration conversations.

        Over many calibrations with n conversations the rate is spread as Beta(n + 1 - rank, rank), if
        the statistic has no ties; its mean is at most ``false_alarms``. The range leaves out (1 -
        level) / 2 of them on each side.
        """
        tail = (1 - level) / 2
        low, high = scipy.special.betaincinv(self.n + 1 - self.rank, self.rank, [tail, 1 - tail])
        return float(low), float(high)


def check_rate(n: int, false_alarms: float) -> int:
    """Return which of n calibration conversations, by their greatest statistic, sets the threshold.

    Raises:
        DynamicsError: If the rate is no share, or n conversations cannot show it.
    """
    if not 0 < false_alarms < 1:
        raise DynamicsError(
            f"a false-alarm rate of {false_alarms} was asked for", hint="give a share between 0 and 1"
        )
    # Rounding of (n + 1) * a must not ask for one conversation more.
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
    """Return the threshold, and how it was set.

    Args:
        statistics: The statistic of each calibration conversation, after each of its values.
        false_alarms: Share of such conversations that may raise an alarm.
        horizon: Values within which the rate shall hold; the longest conversation by default.

    Raises:
        DynamicsError: If there are too few conversations for the rate, or they have no statistic.
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
