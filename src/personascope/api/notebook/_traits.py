"""Traits of a map, as a ranking along the axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from personascope import __version__, api, report
from personascope.api._estimate import Prepared, estimable
from personascope.api._tabular import Tabular
from personascope.api.notebook._model import Model
from personascope.api.notebook._open import MapLike, as_map
from personascope.corpus import Corpus, TraitSet
from personascope.errors import UsageError
from personascope.judge import Judge
from personascope.space import MapTraits, TraitPlace
from personascope.trait_vectors import TraitChanges


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RankedTraits(Tabular):
    """Traits of one set, ranked by the cosine of their vectors with the axis.

    Attributes:
        found: Set of traits in the map.
        layer: Layer of the cosines.
        problem: Why the run is partial; "" if it is complete. The same call goes on with it.
    """

    found: MapTraits
    layer: int
    problem: str = ""

    @property
    def places(self) -> list[TraitPlace]:
        """Traits from the Assistant's end of the axis to the other."""
        return self.found.places(self.layer)

    def headline(self) -> str:
        """Return the traits at both ends."""
        names = [one.name for one in self.places]
        ends = (
            f"{', '.join(names[:3])} | {', '.join(names[-3:][::-1])}" if len(names) > 6 else ", ".join(names)
        )
        return f"{len(names)} traits of {self.found.name!r} at layer {self.layer}: {ends}"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each trait: cosine, 95% interval, null, reliability and pairs."""
        return [
            {
                "trait": one.name,
                "group": one.group,
                "cosine": one.cosine,
                "low": one.low,
                "high": one.high,
                "null": one.null,
                "reliability": one.reliability,
                "kept": one.kept,
                "pairs": one.pairs,
            }
            for one in self.places
        ]

    def notes(self) -> tuple[str, ...]:
        """Return what is missing, and how pairs were kept."""
        scored = self.found.min_difference is not None
        left = ", ".join(f"{name} ({count})" for name, count in self.found.excluded.items())
        return tuple(
            note
            for note in (
                self.problem,
                "" if scored else "no judge gave a score: every pair was kept",
                f"too few kept pairs for a vector: {left}" if left else "",
            )
            if note
        )

    def plot(self, ends: int = 15) -> report.Plot:
        """Return the figure of the traits at both ends of the axis.

        Args:
            ends: Number of traits at each end.
        """
        title = f"Traits along the axis, layer {self.layer}"
        return report.Plot(
            title,
            lambda path: report.traits_figure(path, self.places, title=title, ends=ends),
            {"traits": str(self.found.folder), "layer": str(self.layer), "personascope": __version__},
        )


@estimable
def traits(
    model: Model | None,
    pmap: MapLike,
    names: Sequence[str] = (),
    *,
    judge: Judge | api.JudgeChoice | str | None = None,
    corpus: TraitSet | Path | str | None = None,
    bank: Corpus | Path | str | None = None,
    profile: str = "standard",
    name: str = "",
    layer: int | None = None,
    seed: int = 0,
    restart: bool = False,
    **changes: Unpack[TraitChanges],
) -> Prepared[RankedTraits]:
    """Ask both poles of traits, and rank their vectors by the cosine with the axis (section 2 of the paper).

    The same call goes on with an interrupted run. ``traits.estimate`` says what it would take.

    Args:
        model: Loaded model; None loads the map's own.
        pmap: Map, or its run folder.
        names: Names of traits and of groups; the profile's number of all traits if empty.
        judge: Judge that scores from 0 to 100 ("openai:...", "local:..."); None keeps every pair unscored.
        corpus: Traits, or a file or folder of them; the built-in ones if not given.
        bank: Corpus whose questions are asked; the built-in one if not given.
        profile: "quick", "standard" or "paper".
        name: Name of the set in the map; that of the traits if not given.
        layer: Layer of the ranking; the map's middle layer if not given.
        seed: Random seed.
        restart: Discard the run that is already in the folder.
        changes: Values that override the profile's, such as ``traits=40``.

    Raises:
        UsageError: If an argument does not fit, or no trait has enough pairs yet.
        SpaceError: If the map found no axis.
    """
    opened = as_map(pmap)
    prepared = api.prepare_traits(
        opened.mapped(model),
        names,
        corpus=corpus,
        bank=bank,
        profile=profile,
        judge=judge,
        name=name,
        seed=seed,
        anyway=opened.anyway,
        **changes,
    )

    def run() -> RankedTraits:
        done = prepared.run(restart=restart)
        if done.traits is None:
            raise UsageError(
                f"no trait has enough pairs yet: {done.collected.problem}", hint="call it again to go on"
            )
        at = opened.arrays.middle_layer if layer is None else layer
        return RankedTraits(done.traits, at, done.collected.problem)

    return Prepared(lambda: prepared.estimate().work(prepared.folder), run)
