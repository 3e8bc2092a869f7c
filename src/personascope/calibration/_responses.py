"""Projections of single responses on a direction, and cap floors derived from them (section 5 of the paper).

Mind the sign. The axis points toward the Assistant, so a cap is a floor on it. The authors' released caps are
ceilings on the opposite direction (role - default): their "p0.25" is a low percentile of that direction and a
high one of the axis. An `axis_percentile` of 25 puts a quarter of the responses below the floor, a
`released_percentile` of 25 three quarters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from personascope.errors import EvaluationError, UsageError
from personascope.interop import is_release
from personascope.mapping import MAP
from personascope.space import PersonaMap
from personascope.stats import weighted_percentiles
from personascope.store import RunFolder
from personascope.trait_vectors import kept_responses, pooled_responses

DEFAULT = "default"

POPULATIONS = ("roles", "roles and traits")
"""Responses among which a percentile is taken: those of roles, or of roles and traits as in the paper."""


def axis_percentile_of_released(released_percentile: float) -> float:
    """Convert a percentile on role - default to a percentile on the axis (100 - p)."""
    _check_percentile(released_percentile, "released_percentile")
    return 100.0 - released_percentile


@dataclass(frozen=True, slots=True, eq=False)
class Projections:
    """Projections of single responses on a direction of each layer.

    Attributes:
        values: [responses, L] projections on unit directions.
        groups: Role of each response, "trait|NAME", or "default".
        weights: Number of responses that each one stands for; None if each stands for as many.
    """

    values: Float64[np.ndarray, "n L"]
    groups: tuple[str, ...]
    weights: Float64[np.ndarray, "n"] | None = None

    def floor_at_axis_percentile(self, percentile: float, layer: int) -> float:
        """Return the projection below which ``percentile`` percent of the responses lie.

        A cap at this floor moves about that share of similar responses. A higher percentile is a stronger
        cap.

        Raises:
            UsageError: If the percentile is not between 0 and 100.
        """
        _check_percentile(percentile, "axis_percentile")
        if self.weights is not None:
            return float(weighted_percentiles(self.values[:, [layer]], self.weights, (percentile,))[0, 0])
        return float(np.percentile(self.values[:, layer], percentile))

    def floor_at_released_percentile(self, percentile: float, layer: int) -> float:
        """Return the floor for a percentile as the authors' files give it: on the opposite direction.

        A higher percentile is a weaker cap. "p0.25" of a released experiment is 25 here, and the 75th
        percentile on the axis.

        Raises:
            UsageError: If the percentile is not between 0 and 100.
        """
        return self.floor_at_axis_percentile(axis_percentile_of_released(percentile), layer)

    def floor_at_mean_plus_sd(self, k: float, layer: int) -> float:
        """Return the mean projection plus k standard deviations; k may be negative."""
        column = self.values[:, layer]
        if self.weights is None:
            return float(column.mean() + k * column.std())
        mean = np.average(column, weights=self.weights)
        return float(mean + k * np.sqrt(np.average(np.square(column - mean), weights=self.weights)))


def _check_percentile(value: float, name: str) -> None:
    if not 0 <= value <= 100:
        raise UsageError(f"{name} is {value}", hint="give a percentile from 0 to 100, not a fraction")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Pooled activations of single responses that a mapping run kept on disk (``--keep``).

    Attributes:
        folder: Run folder.
        persona_map: Map of the run.
        population: "roles", or "roles and traits" to take in the responses of trait runs (section 5).
    """

    folder: Path
    persona_map: PersonaMap
    population: str = "roles"

    @classmethod
    def open(cls, folder: Path | str, population: str = "roles") -> Sample:
        """Open the kept responses of a run.

        Args:
            folder: Run folder.
            population: Responses among which percentiles are taken: "roles", or "roles and traits" as in the
                paper. A kept response then stands for as many as its kind has for one that was kept.

        Raises:
            UsageError: If there is no such population.
            StoreError: If the folder holds no run, or the run has no map.
            EvaluationError: If the run kept no response, or traits are asked for and none were run.
        """
        if population not in POPULATIONS:
            raise UsageError(
                f"there is no population {population!r}", hint=f"give one of {', '.join(POPULATIONS)}"
            )
        path = Path(folder)
        if is_release(path):
            raise EvaluationError(
                f"{path} is an imported release, which keeps no responses to set a floor by",
                hint="map the model, or take the authors' caps: personascope import SOURCE --experiment ID",
            )
        sample = cls(path, PersonaMap.open(path / MAP), population)
        if not (path / "units").is_dir():
            raise EvaluationError(
                f"{path} holds a map without the responses of its run, among which percentiles are taken",
                hint="a map that was shared without its texts has none: set a floor by its position "
                "(pmap.cap(position=0.0, layers=(14, 22))), or map the model",
            )
        if next(iter(sample._kept()), None) is None:
            raise EvaluationError(
                f"{path} kept no response's activations", hint="map again with --keep 512 or more"
            )
        if population != POPULATIONS[0] and not sample._trait_runs():
            raise EvaluationError(
                f"no traits were run in {path}", hint="run personascope traits first, or take the roles alone"
            )
        return sample

    def _trait_runs(self) -> list[Path]:
        """Return the folders of the trait runs that are in the map."""
        names = [one.name for one in self.persona_map.traits]
        folders = [self.folder / "traits" / name for name in names]
        return [folder for folder in folders if (folder / "manifest.json").exists()]

    def _kept(self) -> Iterator[tuple[str, Float[np.ndarray, "L d"]]]:
        run = RunFolder.read(self.folder)
        for index in sorted(run.units):
            part = run.part(index, "kept")
            for name in () if part is None else part.specs:
                yield name.split("/", 1)[0], part.read(name)  # pyright: ignore[reportOptionalMemberAccess]

    def project(
        self,
        directions: Float[np.ndarray, "L d"] | None = None,
        *,
        roles_only: bool = True,
    ) -> Projections:
        """Project the kept responses.

        Args:
            directions: One direction per layer, of any norm; the axis by default.
            roles_only: Whether to leave out the default's responses, as the paper does.

        Raises:
            EvaluationError: If no response is left.
        """
        unit = np.asarray(self.persona_map.axis if directions is None else directions, np.float64)
        unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
        groups: list[str] = []
        values: list[np.ndarray] = []
        for group, pooled in self._kept():
            if roles_only and group == DEFAULT:
                continue
            groups.append(group)
            values.append(np.einsum("ld,ld->l", pooled.astype(np.float64), unit))
        if not values:
            raise EvaluationError(
                f"{self.folder} kept no response of a role", hint="map again with --keep 512 or more"
            )
        if self.population == POPULATIONS[0]:
            return Projections(np.stack(values), tuple(groups))
        counts = self.persona_map.counts
        responses = sum(
            sum(row.values()) - row.get("empty", 0)
            for name, row in counts.items()
            if name != DEFAULT or not roles_only
        )
        weights = [np.full(len(values), responses / len(values))]
        for folder in self._trait_runs():
            run = RunFolder.read(folder)
            before = len(values)
            for name, pooled in kept_responses(run):
                groups.append(name.split("/", 1)[0])
                values.append(np.einsum("ld,ld->l", pooled.astype(np.float64), unit))
            kept = len(values) - before
            if kept:
                weights.append(np.full(kept, pooled_responses(run) / kept))
        return Projections(np.stack(values), tuple(groups), np.concatenate(weights))
