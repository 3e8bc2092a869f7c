"""The persona space in three dimensions: roles on the first components, the default and the axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.errors import UsageError
from personascope.report.figures._style import BLUE, INK, drawing, heading
from personascope.space import PersonaMap

_LABELLED = 6
"""Number of roles at each end of the axis that are named."""


@dataclass(frozen=True, slots=True, eq=False)
class SpaceData:
    """Roles, default and axis in the coordinates of the first three components; R roles.

    Attributes:
        names: Names of the roles.
        points: Coordinates of the roles.
        positions: Positions of the roles on the axis: 0 is the mean role, 1 the default.
        default: Coordinates of the default.
        axis: Coordinates of the unit axis.
        variance: Share of the variance of each of the three components.
        title: Title of the figure.
        below: Subtitle of the figure.
    """

    names: tuple[str, ...]
    points: Float[np.ndarray, "R 3"]
    positions: Float[np.ndarray, "R"]
    default: Float[np.ndarray, "3"]
    axis: Float[np.ndarray, "3"]
    variance: tuple[float, ...]
    title: str
    below: str

    @classmethod
    def of(cls, persona_map: PersonaMap, layer: int) -> SpaceData:
        """Compute the coordinates at a layer of a map.

        Raises:
            UsageError: If the map has no such layer, or is an imported release, which has no components.
        """
        components = persona_map.components(layer).astype(np.float64)[:3]
        if len(components) < 3:
            raise UsageError(
                f"the map has {len(components)} components, and the figure shows three",
                hint="map more roles, or read .roles",
            )
        stats, mean = persona_map.stats, persona_map.mean(layer).astype(np.float64)
        vectors = persona_map.role_vectors(layer).astype(np.float64)
        projections = stats.projections[layer]
        return cls(
            persona_map.roles,
            (vectors - mean) @ components.T,
            np.asarray(persona_map.to_units(projections, layer), float),
            (persona_map.default_vector[layer].astype(np.float64) - mean) @ components.T,
            components @ persona_map.unit_axis(layer).astype(np.float64),
            tuple(float(share) for share in stats.variance_ratio[layer][:3]),
            f"Persona space of {persona_map.model.id}, layer {layer}",
            f"{len(persona_map.roles)} roles; {persona_map.verdict(layer).headline}",
        )


def space_figure(path: Path | str, data: SpaceData) -> None:
    """Draw the roles in three dimensions, coloured by position, with the default and the axis.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        data: Coordinates.

    Raises:
        UsageError: If the suffix is not PNG, SVG or PDF.
        StoreError: If the file cannot be written.
    """
    with drawing(path, (8.4, 6.6)) as figure:
        heading(figure, data.title, data.below)
        axes: Any = figure.add_subplot(projection="3d")
        spread = max(float(np.ptp(data.positions)), 1e-9)
        points = axes.scatter(
            *data.points.T, c=data.positions, cmap="viridis", s=16, depthshade=False, linewidths=0
        )
        axes.scatter(*data.default, marker="*", s=170, color=INK, zorder=5)
        axes.text(*data.default, "  default", color=INK, fontsize=9, fontweight="bold", zorder=6)
        length = 0.5 * float(np.ptp(data.points, axis=0).max()) / max(float(np.linalg.norm(data.axis)), 1e-9)
        ends = np.stack([-data.axis, data.axis]) * length
        axes.plot(*ends.T, color=BLUE, linewidth=1.4, alpha=0.8)
        axes.text(*ends[1], "axis", color=BLUE, fontsize=8.5)
        order = np.argsort(data.positions, kind="stable")
        count = min(_LABELLED, max(1, len(order) // 3))
        for index in dict.fromkeys([*order[:count].tolist(), *order[-count:].tolist()]):
            axes.text(*data.points[index], f" {data.names[index]}", fontsize=7.5, parse_math=False)
        for name, share, set_label in zip(
            ("PC1", "PC2", "PC3"),
            (*data.variance, 0.0, 0.0, 0.0),
            (axes.set_xlabel, axes.set_ylabel, axes.set_zlabel),
            strict=False,
        ):
            set_label(f"{name} ({share:.0%} of the variance)", fontsize=8.5)
        axes.tick_params(labelsize=7)
        axes.view_init(elev=18, azim=-62)
        axes.set_box_aspect((1.0, 1.0, 0.85), zoom=1.12)
        bar = figure.colorbar(points, ax=axes, shrink=0.6, pad=0.1)
        bar.set_label("Position (0 mean role, 1 default Assistant)")
        if spread < 1e-6:
            bar.set_ticks([])
