"""Results of a comparison of maps, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from personascope.stats import json_values


@dataclass(frozen=True, slots=True)
class Statistic:
    """A figure with its 95% interval, and what it would be without a relation.

    Attributes:
        value: Estimate.
        low: Lower limit of the interval; NaN if undefined.
        high: Upper limit of the interval; NaN if undefined.
        null_q95: 95% quantile of the absolute figure under its null; None if it has none.
        p_value: (1 + number of null draws at least as great) / (1 + number of draws); None without a null.
    """

    value: float
    low: float
    high: float
    null_q95: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class ComponentMatch:
    """A component of the first map and the one of the second that it was assigned to.

    Attributes:
        first: Number of the component in the first map, from 1.
        second: Number of the component in the second map, from 1.
        correlation: Absolute correlation of their loadings.
    """

    first: int
    second: int
    correlation: Statistic


@dataclass(frozen=True, slots=True)
class ComponentMatching:
    """Correlations of the loadings of the shared roles on the first k components of two maps.

    Attributes:
        k: Number of components of each map.
        order: |r| of component number i with component number i, for i = 1 to k.
        assignment: The one-to-one pairs of components with the greatest sum of |r|.
        assignment_mean: Mean |r| of these pairs.
        procrustes: Procrustes correlation: 1 if a rotation carries the loadings of one map onto the other's,
            up to a scale. Components weigh by their variance.
        rotated: r of each component of the first map with the rotated loadings of the second.
        canonical: Canonical correlations, in descending order. All components weigh alike.
    """

    k: int
    order: tuple[Statistic, ...]
    assignment: tuple[ComponentMatch, ...]
    assignment_mean: Statistic
    procrustes: Statistic
    rotated: tuple[Statistic, ...]
    canonical: tuple[Statistic, ...]


@dataclass(frozen=True, slots=True)
class RoleAgreement:
    """Correlation over the shared roles of a figure that each has in both maps.

    Attributes:
        pearson: Pearson's r.
        spearman: Spearman's rank correlation.
    """

    pearson: Statistic
    spearman: Statistic


@dataclass(frozen=True, slots=True)
class PairFigure:
    """A figure that each map has by itself, over the roles that both share.

    Attributes:
        first: Figure of the first map.
        second: Figure of the second map.
        contrast: Second minus first for a share of roles, second divided by first for a dimensionality.
    """

    first: Statistic
    second: Statistic
    contrast: Statistic


@dataclass(frozen=True, slots=True)
class DefaultPlaces:
    """Share of the shared roles that lie below the default, 0 to 1.

    Attributes:
        axis: On the axis.
        pc1: On PC1, whose positive end is the axis's.
    """

    axis: PairFigure
    pc1: PairFigure


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Dimensionality of the shared roles' vectors.

    Attributes:
        components_for_70: Number of components for 70% of the variance.
        pc1_share: Share of the variance on the first component.
        participation_ratio: (Sum of the variances)^2 / sum of their squares: the number of components if all
            had the same variance.
    """

    components_for_70: PairFigure
    pc1_share: PairFigure
    participation_ratio: PairFigure


@dataclass(frozen=True, slots=True)
class Geometry:
    """Directions of two maps in the same coordinates.

    Attributes:
        axis_cosine: Cosine of the axes.
        overlap: Mean squared cosine of the principal angles between the first k components, 0 to 1.
        angles: Principal angles in degrees, in ascending order.
    """

    axis_cosine: Statistic
    overlap: Statistic
    angles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BetweenRow:
    """A row of the table of figures between two maps.

    Attributes:
        group: Heading of the row.
        name: Name of the figure.
        figure: The figure.
    """

    group: str
    name: str
    figure: Statistic


@dataclass(frozen=True, slots=True)
class ApartRow:
    """A row of the table of figures that each of two maps has by itself.

    Attributes:
        group: Heading of the row.
        name: Name of the figure.
        figure: The figure of both maps.
        percent: Whether it is a share, to be shown in percent.
        contrast: What ``figure.contrast`` is.
    """

    group: str
    name: str
    figure: PairFigure
    percent: bool
    contrast: Literal["difference", "ratio"]


@dataclass(frozen=True, slots=True)
class MapSummary:
    """A compared map.

    Attributes:
        label: Letter of the map in the output.
        name: Name of its run folder or folder.
        model: Id of its model; "" if unknown.
        tokens: Part of the responses that was pooled.
        layer: Layer that is compared.
        n_layers: Number of layers.
        d_model: Width of the residual stream.
        roles: Number of roles with a vector.
        digest: SHA-256 of its tensors.
        corpus_digest: Digest of its corpus; "" if unknown.
        axis: Grade of the verdict on its axis at the layer.
        reasons: Figures that led to the grade.
        role_reliability: Share of the roles' variance on the axis that would replicate; NaN if unknown.
    """

    label: str
    name: str
    model: str
    tokens: str
    layer: int
    n_layers: int
    d_model: int
    roles: int
    digest: str
    corpus_digest: str
    axis: str
    reasons: tuple[str, ...]
    role_reliability: float


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Comparison of two maps over the roles that have a vector in both.

    Attributes:
        first: Label of the first map.
        second: Label of the second map.
        roles: Names of the n shared roles.
        only_first: Roles with a vector in the first map alone.
        only_second: Roles with a vector in the second map alone.
        components: Correlations of loadings.
        cosines: Correlation of the roles' cosines with the axis.
        positions: Correlation of the roles' projections on the axis.
        default: Place of the default among the shared roles.
        dimensions: Dimensionality of the shared roles' vectors.
        geometry: Cosines and angles between the maps; None if the widths differ.
        not_comparable: Why there is no geometry; "" if there is.
        notes: What a reader of these figures must know.
        pc1: Loadings of the shared roles on PC1 of both maps.
        axis: Cosines of the shared roles with the axes of both maps.
    """

    first: str
    second: str
    roles: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    components: ComponentMatching
    cosines: RoleAgreement
    positions: RoleAgreement
    default: DefaultPlaces
    dimensions: Dimensions
    geometry: Geometry | None
    not_comparable: str
    notes: tuple[str, ...]
    pc1: tuple[tuple[float, ...], tuple[float, ...]]
    axis: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def between(self) -> tuple[BetweenRow, ...]:
        """Figures between the two maps, as rows of a table."""
        by, k = self.components, self.components.k
        order, assigned, rotated = "PC k with PC k", "best one-to-one assignment", "best rotation"
        agree = "roles along the axes"
        rows = [BetweenRow(order, f"PC{i}", one) for i, one in enumerate(by.order, 1)]
        rows += [
            BetweenRow(assigned, f"PC{one.first} with PC{one.second}", one.correlation)
            for one in by.assignment
        ]
        rows.append(BetweenRow(assigned, f"mean of {k}", by.assignment_mean))
        rows.append(BetweenRow(rotated, f"all {k} (Procrustes)", by.procrustes))
        rows += [BetweenRow(rotated, f"PC{i} with the rotated", one) for i, one in enumerate(by.rotated, 1)]
        rows += [BetweenRow(rotated, f"canonical {i}", one) for i, one in enumerate(by.canonical, 1)]
        for name, one in (("cosine", self.cosines), ("position", self.positions)):
            rows.append(BetweenRow(agree, f"{name}, Pearson", one.pearson))
            rows.append(BetweenRow(agree, f"{name}, Spearman", one.spearman))
        if self.geometry is not None:
            rows.append(BetweenRow("same coordinates", "cosine of the axes", self.geometry.axis_cosine))
            rows.append(BetweenRow("same coordinates", f"overlap of {k} components", self.geometry.overlap))
        return tuple(rows)

    @property
    def apart(self) -> tuple[ApartRow, ...]:
        """Figures that each map has by itself, as rows of a table."""
        of, place = self.dimensions, self.default
        below, size = "shared roles below the default", "dimensionality of the shared roles"
        return (
            ApartRow(below, "on the axis", place.axis, True, "difference"),
            ApartRow(below, "on PC1", place.pc1, True, "difference"),
            ApartRow(size, "components for 70%", of.components_for_70, False, "ratio"),
            ApartRow(size, "share of PC1", of.pc1_share, True, "ratio"),
            ApartRow(size, "participation ratio", of.participation_ratio, False, "ratio"),
        )


@dataclass(frozen=True, slots=True)
class MapComparison:
    """Comparison of two maps or more, pair by pair.

    Attributes:
        maps: Compared maps.
        pairs: Every pair of them, in order.
        notes: What a reader must know of single maps, such as an axis that was not found.
        methods: What is resampled and permuted, in sentences.
        draws: Number of bootstrap draws and of permutations.
        seed: Random seed.
    """

    maps: tuple[MapSummary, ...]
    pairs: tuple[PairComparison, ...]
    notes: tuple[str, ...]
    methods: tuple[str, ...]
    draws: int
    seed: int

    def pair(self, first: str, second: str) -> PairComparison:
        """Return the comparison of two maps, given their labels in either order.

        Raises:
            KeyError: If there is no such pair.
        """
        for found in self.pairs:
            if {found.first, found.second} == {first, second}:
                return found
        raise KeyError(f"{first} and {second}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values; non-finite numbers become None."""
        return json_values(asdict(self))
