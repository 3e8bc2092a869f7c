"""Parse the ids of the released capping experiments: layers, and percentile with its orientation.

The released vectors are role - default, so they point AWAY from the Assistant, and the ``p`` of an id is a
percentile of projections on them (section 5 of METHOD). Along the Assistant Axis, which points the other way,
p0.25 is the 75th percentile. The names of both numbers say which orientation they have.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from personascope.errors import InteropError

_ID = re.compile(r"layers_(\d+):(\d+)-p(\d+(?:\.\d+)?|\.\d+)")


class ExperimentId(NamedTuple):
    """Parsed id such as ``layers_46:54-p0.25``.

    Attributes:
        layers: Capped layers, 0-based; the id's second number is not one of them.
        released_fraction: Number after ``p``, from 0 to 1: a quantile on role - default.
    """

    layers: range
    released_fraction: float

    @property
    def released_percentile(self) -> float:
        """Percentile of the cap among projections on role - default, the released orientation."""
        return 100 * self.released_fraction

    @property
    def axis_percentile(self) -> float:
        """Percentile of the floor among projections on the Assistant Axis: 100 minus the released one."""
        return 100 - 100 * self.released_fraction

    def __str__(self) -> str:
        """Return the id as it is written in a capping config."""
        return f"layers_{self.layers.start}:{self.layers.stop}-p{self.released_fraction:g}"

    def explain(self) -> str:
        """Return what the id means in both orientations, in words."""
        last = self.layers.stop - 1
        return (
            f"layers {self.layers.start} to {last}; released percentile {self.released_percentile:g} on "
            f"role - default, which is percentile {self.axis_percentile:g} on the Assistant Axis"
        )


def is_experiment_id(text: str) -> bool:
    """Return whether a text has the form of an experiment id."""
    return _ID.fullmatch(text) is not None


def parse_experiment_id(text: str) -> ExperimentId:
    """Parse an experiment id: ``layers_46:54-p0.25`` is layers 46 to 53 and the quantile 0.25.

    Raises:
        InteropError: If the text is not such an id, its range is empty, or its fraction is above 1.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise InteropError(
            f"{text!r} is no experiment id",
            hint="an id looks like layers_46:54-p0.25, the second layer left out",
        )
    start, stop, fraction = int(found[1]), int(found[2]), float(found[3])
    if start >= stop or fraction > 1:
        raise InteropError(
            f"the experiment id {text!r} means {max(0, stop - start)} layers and the quantile {fraction:g}",
            hint="the second layer is one past the last, and the number after p lies between 0 and 1",
        )
    return ExperimentId(range(start, stop), fraction)
