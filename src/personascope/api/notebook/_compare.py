"""Maps held against each other, as a table, a figure and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope import __version__, api, report, space
from personascope.api._tabular import Tabular
from personascope.api.notebook._open import MapLike, as_map
from personascope.comparison import MapComparison


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ComparedMaps(Tabular):
    """Result of `compare`.

    Attributes:
        found: All figures, pair by pair.
    """

    found: MapComparison

    def headline(self) -> str:
        """Return the maps, and how far their main components agree."""
        names = ", ".join(f"{one.label} {one.name} (layer {one.layer})" for one in self.found.maps)
        agree = ", ".join(
            f"{one.first}-{one.second} {one.components.order[0].value:.2f}" for one in self.found.pairs
        )
        return f"{names}; |r| on PC1: {agree}"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each figure of each pair: value, 95% interval, null and p."""
        return [
            {
                "first": pair.first,
                "second": pair.second,
                "group": row.group,
                "name": row.name,
                "value": row.figure.value,
                "low": row.figure.low,
                "high": row.figure.high,
                "null_q95": row.figure.null_q95,
                "p": row.figure.p_value,
                "roles": len(pair.roles),
            }
            for pair in self.found.pairs
            for row in pair.between
        ]

    def notes(self) -> tuple[str, ...]:
        """Return what a reader must know of the maps and the pairs."""
        pairs = self.found.pairs
        apart = [
            f"{p.first} and {p.second} not compared: {p.not_comparable}" for p in pairs if p.not_comparable
        ]
        return (*self.found.notes, *(note for pair in pairs for note in pair.notes), *apart)

    def plot(self) -> report.Plot:
        """Return the figure of the roles' loadings on PC1; saved as .html it is the whole page."""
        about = {
            "maps": "; ".join(f"{one.name} {one.digest[:12]} layer {one.layer}" for one in self.found.maps),
            "draws": str(self.found.draws),
            "seed": str(self.found.seed),
            "personascope": __version__,
        }
        return report.Plot(
            "Comparison of maps",
            lambda path: report.comparison_figure(path, self.found),
            about,
            page=lambda path: report.write_comparison(self.found, path),
        )


def compare(
    *maps: MapLike | space.PersonaMap | tuple[MapLike, int],
    layer: int | None = None,
    components: int = 5,
    draws: int = 2000,
    seed: int = 0,
    out: Path | str | None = None,
) -> ComparedMaps:
    """Compare two maps or more, pair by pair, over the roles that they share.

    Args:
        maps: Opened maps, or folders; (map, layer) or "FOLDER:LAYER" for a layer of its own.
        layer: Layer of the maps without a layer of their own; each map's middle layer if not given.
        components: Number of components that are compared, at most 10.
        draws: Number of bootstrap draws and of permutations.
        seed: Random seed.
        out: File to write: ``.html`` for a self-contained page, ``.json`` for the figures.

    Raises:
        UsageError: If there are fewer than two maps, or a pair shares too few roles.
        SpaceError: If a map holds no difference between the shared roles.
        StoreError: If a folder holds no map, or the file cannot be written.
    """
    given: list[Any] = []
    for one in maps:
        one_map, at = one if isinstance(one, tuple) else (one, None)
        plain = one_map if isinstance(one_map, str | Path) else as_map(one_map).arrays
        given.append(plain if at is None else (plain, at))
    return ComparedMaps(
        api.compare(given, layer=layer, components=components, draws=draws, seed=seed, out=out)
    )
