"""All data that a report shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from personascope.report.map_page._result_views import EvaluationView, MonitorRule, SweepView, TalksView

Point = tuple[float, float, float]
"""Coordinates on PC1 to PC3."""


@dataclass(frozen=True)
class Figure:
    """One of the key figures at the top of the report.

    Attributes:
        label: Name of the figure.
        value: Value, or None if it could not be computed.
        low: Lower end of its interval, or None without one.
        high: Upper end of its interval, or None without one.
        note: Explanation for people.
        digits: Number of decimals shown.
        interval: Kind of interval that ``low`` and ``high`` are.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    digits: int = 2
    interval: str = "95% interval"


@dataclass(frozen=True)
class Answer:
    """The verdict's answer to one question.

    Attributes:
        question: Question about the map.
        grade: "found", "weak", "not found" or "unknown".
        reasons: Figures that led to the grade.
    """

    question: str
    grade: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Curves:
    """Statistics by layer; every tuple has one value per layer, or is empty.

    Attributes:
        cosine: cos(axis, PC1).
        low: Lower end of its bootstrap interval.
        high: Upper end of its bootstrap interval.
        null: 95% quantile of the null that relabels role responses as default ones.
        split_half: Median cosine between the axes of two halves of the questions.
    """

    cosine: tuple[float | None, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    null: tuple[float | None, ...] = ()
    split_half: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class LayerView:
    """Places of roles and default at one layer.

    Attributes:
        layer: Layer, 0-based, after the block.
        mean: Raw projection of the mean role, position 0.
        default: Raw projection of the default Assistant, position 1.
        projections: Raw projection of each role with a vector, in the order of the report's roles.
        points: Coordinates of these roles on PC1 to PC3 of the layer.
        default_point: Coordinates of the default.
        axis: Coordinates of the unit axis.
        variance: Share of the variance of each component.
    """

    layer: int
    mean: float
    default: float
    projections: tuple[float, ...]
    points: tuple[Point, ...]
    default_point: Point
    axis: Point
    variance: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """One sample response.

    Attributes:
        question: Question of the response.
        text: Text of the response; untrusted.
        score: Score of the judge, 0 to 3, or None without one.
        cut: Number of characters cut off at the end.
    """

    question: str
    text: str
    score: int | None
    cut: int = 0


@dataclass(frozen=True)
class Role:
    """A role, or the default Assistant.

    Attributes:
        name: Name of the role.
        group: Kind of role; "" if unknown.
        description: One-line description; "" if unknown.
        point: Coordinates of its vector on PC1 to PC3 at the middle layer, or None without a vector.
        projection: Projection of its vector on the unit axis at the middle layer, or None without a vector.
        low: Lower end of the projection's interval.
        high: Upper end of the projection's interval.
        counts: Label (such as "score 3") -> number of responses.
        samples: Sample responses.
    """

    name: str
    group: str = ""
    description: str = ""
    point: Point | None = None
    projection: float | None = None
    low: float | None = None
    high: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Trait:
    """A trait's place on the axis at the middle layer.

    Attributes:
        name: Name of the trait.
        cosine: Cosine of its vector with the axis; positive toward the Assistant.
        low: Lower end of its 95% interval, or None without one.
        high: Upper end of its interval.
        note: Kept pairs and the null, for people.
    """

    name: str
    cosine: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """All data of a report.

    Attributes:
        model: Id of the model.
        revision: Revision of the model; "" if unknown.
        corpus: Name and version of the corpus; "" if unknown.
        corpus_digest: Digest of the corpus.
        responses: Number of responses behind the map.
        n_layers: Number of layers of the model.
        d_model: Width of the residual stream.
        middle_layer: Layer of the scatter plot and the ranking (0-based, after the block).
        figures: Key figures.
        variance: Share of the variance of each component at the middle layer.
        curves: Statistics by layer.
        default: The default Assistant.
        axis: Coordinates of the unit axis on PC1 to PC3; their norm is the part of the axis in these
            components.
        roles: Roles with and without a vector.
        methods: Sentences on how the numbers were computed.
        warnings: Caveats for the reader.
        samples_note: Why there are no sample answers; "" if there are.
        verdict: Answers of the verdict, shown first on the page.
        design: Name of the design that the map was made with.
        traits: Traits with a vector, from the Assistant's end of the axis to the other.
        traits_notes: Sentences on what the traits rest on.
        layers: Views of the layers to choose from; empty for the middle layer alone, in raw projections.
        evaluations: Evaluations of the run.
        sweep: Sweep of the run over caps, or None without one.
        steering: Sweep of the run over steering, or None without one.
        talks: Analysed conversations of the run.
        monitor: False alarms of the run's drift monitor.
    """

    model: str
    revision: str
    corpus: str
    corpus_digest: str
    responses: int
    n_layers: int
    d_model: int
    middle_layer: int
    figures: tuple[Figure, ...]
    variance: tuple[float, ...]
    curves: Curves
    default: Role
    axis: Point
    roles: tuple[Role, ...]
    methods: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    samples_note: str = ""
    verdict: tuple[Answer, ...] = ()
    design: str = ""
    traits: tuple[Trait, ...] = ()
    traits_notes: tuple[str, ...] = ()
    layers: tuple[LayerView, ...] = ()
    evaluations: tuple[EvaluationView, ...] = ()
    sweep: SweepView | None = None
    steering: SweepView | None = None
    talks: tuple[TalksView, ...] = ()
    monitor: tuple[MonitorRule, ...] = ()
