"""Least-squares slope, for the trend of a monitor's last values."""

from __future__ import annotations

import functools
import math
import operator
from collections import deque
from collections.abc import Sequence


def slope(numbers: deque[int], values: deque[float]) -> float:
    """Return the least-squares slope of values on their numbers; NaN for fewer than three values."""
    count = len(values)
    if count < 3:
        return math.nan
    begin = numbers[0]
    whole = numbers[-1] - begin == count - 1
    weights = _weights(range(count) if whole else tuple(number - begin for number in numbers))
    return sum(map(operator.mul, weights, values))


@functools.lru_cache(maxsize=256)
def _weights(numbers: Sequence[int]) -> tuple[float, ...]:
    """Return the weight of each value in the slope; cached, as windows without gaps share their weights."""
    mean = sum(numbers) / len(numbers)
    below = sum((number - mean) ** 2 for number in numbers)
    return tuple((number - mean) / below for number in numbers)
