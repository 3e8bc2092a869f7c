"""What a report shows, as plain values: the page is made of these and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Point = tuple[float, float, float]
"""Coordinates on PC1 to PC3."""


@dataclass(frozen=True)
class Figure:
    """One of the numbers at the head of the report.

    Attributes:
        label: What it is.
        value: The number, or None where it could not be computed.
        low: Lower end of its interval, or None without one.
        high: Upper end of its interval, or None without one.
        note: One sentence for people.
        digits: Decimals that are shown.
        interval: What ``low`` and ``high`` are.
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
    """The verdict on one question.

    Attributes:
        question: What was asked of the map.
        grade: "found", "weak", "not found" or "unknown".
        reasons: The figures that led to it.
    """

    question: str
    grade: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Curves:
    """What is known of each layer; every tuple has one value for each layer, or is empty.

    Attributes:
        cosine: cos(axis, PC1).
        low: Lower end of its bootstrap interval.
        high: Upper end of its bootstrap interval.
        null: 95% quantile of the null that relabels role responses as default ones.
        split_half: Cosine between the axes of two halves of the responses.
    """

    cosine: tuple[float | None, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    null: tuple[float | None, ...] = ()
    split_half: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One response.

    Attributes:
        question: What was asked.
        text: What the model answered; untrusted.
        score: The judge's score 0 to 3, or None without one.
        cut: Characters that were left out at the end.
    """

    question: str
    text: str
    score: int | None
    cut: int = 0


@dataclass(frozen=True)
class Role:
    """A role, or the default Assistant.

    Attributes:
        name: Its name.
        group: Kind of role; empty where unknown.
        description: One line for people; empty where unknown.
        point: Its vector on PC1 to PC3 at the middle layer, or None without a vector.
        projection: Its vector on the unit axis at the middle layer, or None without a vector.
        low: Lower end of the projection's interval.
        high: Upper end of the projection's interval.
        counts: Label (such as "score 3") -> responses.
        samples: Some of its responses.
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
class ReportData:
    """All that a report shows.

    Attributes:
        model: The model's id.
        revision: Its revision; empty where unknown.
        corpus: What the corpus is called.
        corpus_digest: The corpus's digest.
        responses: Responses behind the map.
        n_layers: Layers of the model.
        d_model: Width of its residual stream.
        middle_layer: The layer of the scatter and the ranking (0-based, after the block).
        figures: The key figures.
        variance: Share of the variance of each component at the middle layer.
        curves: Statistics by layer.
        default: The default Assistant.
        axis: The unit axis on PC1 to PC3; its length says how much of it these three hold.
        roles: The roles.
        methods: Sentences on how the numbers came about.
        warnings: What the reader must know before believing anything.
        samples_note: Why there are no sample answers; empty if there are.
        verdict: Is the map one? The first thing on the page.
        design: By which design the map was made.
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
