"""Input data of the figures of persona dynamics: plain numbers from results of ``dynamics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personascope.dynamics.causes import Clusters, Prediction
from personascope.dynamics.trajectories import Replays, Trajectories
from personascope.errors import UsageError
from personascope.report.figures._data import Estimate, Series, rising, same_length


@dataclass(frozen=True, slots=True)
class TrajectoryLine:
    """The mean trajectory of one domain.

    Attributes:
        name: Name of the domain.
        turns: Turn numbers, from 1, rising.
        position: Mean position at each turn, with limits.
        n: Number of conversations at each turn.

    Raises:
        UsageError: If lengths differ, or the turns do not rise.
    """

    name: str
    turns: Sequence[int]
    position: Series
    n: Sequence[int]

    def __post_init__(self) -> None:
        """Check the turns, and that all values fit them."""
        rising(self.turns)
        same_length(
            "the turns",
            len(self.turns),
            {"position": self.position.values, f"n of {self.name}": self.n},
        )


@dataclass(frozen=True, slots=True)
class TrajectoryData:
    """Trajectories by domain (section 4 of the paper).

    Attributes:
        lines: One line per domain.
        title: Title of the figure: what was measured, with the model and the layer.
        notes: Limitations of the means, one sentence each.

    Raises:
        UsageError: If there is no line.
    """

    lines: Sequence[TrajectoryLine]
    title: str
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _some(self.lines, "trajectories", "at least one domain with a turn that enough conversations reach")

    @classmethod
    def of(cls, found: Trajectories, title: str) -> TrajectoryData:
        """Convert the trajectories of a run; a domain without turns appears only in the notes."""
        lines = [
            TrajectoryLine(
                one.domain,
                [turn.turn + 1 for turn in one.turns],
                Series.of(turn.position for turn in one.turns),
                [turn.position.n for turn in one.turns],
            )
            for one in found.domains
            if one.turns
        ]
        return cls(lines, title, found.notes())


@dataclass(frozen=True, slots=True)
class PredictionPanel:
    """Held-out predictions of one target.

    Attributes:
        name: Name of the target.
        actual: Target of each row.
        predicted: Held-out prediction of each row.
        domains: Domain of each row.
        held_out: R2 on held-out rows.
        shuffled: Lowest and highest R2 on shuffled targets.
        shuffles: Number of shuffles.
        baselines: Name of a baseline without messages -> its R2.
        within_domain: R2 beyond the domain's mean.
        within_shuffled: Lowest and highest R2 beyond the domain's mean, on shuffled targets.
        in_sample: R2 on the training rows.
        held_together: Number and kind of held-out groups: "80 topics".

    Raises:
        UsageError: If lengths differ, or there is no row.
    """

    name: str
    actual: Sequence[float]
    predicted: Sequence[float]
    domains: Sequence[str]
    held_out: Estimate
    shuffled: tuple[float, float]
    shuffles: int
    baselines: Mapping[str, float]
    within_domain: Estimate
    within_shuffled: tuple[float, float]
    in_sample: float
    held_together: str

    def __post_init__(self) -> None:
        """Check the lengths."""
        _some(self.actual, "predictions", "at least one row")
        same_length("the rows", len(self.actual), {"predicted": self.predicted, "the domains": self.domains})

    @classmethod
    def of(cls, found: Prediction) -> PredictionPanel:
        """Convert a prediction."""
        names = {"position": "Position of the reply", "change": "Change from the reply before"}
        return cls(
            name=names[found.target],
            actual=found.actual.tolist(),
            predicted=found.predicted.tolist(),
            domains=found.rows.domains,
            held_out=Estimate.of(found.held_out),
            shuffled=(found.shuffled.low, found.shuffled.high),
            shuffles=found.shuffled.count,
            baselines={name: one.estimate for name, one in found.baselines.items()},
            within_domain=Estimate.of(found.within_domain),
            within_shuffled=(found.within_shuffled.low, found.within_shuffled.high),
            in_sample=found.in_sample,
            held_together=f"{found.held_out.n_clusters:,} {found.group}s",
        )


@dataclass(frozen=True, slots=True)
class PredictionData:
    """Predictions from the user's messages (section 4 of the paper).

    Attributes:
        panels: One panel per target.
        title: Title of the figure: what was predicted, with the model, the layer and the embedding.

    Raises:
        UsageError: If there is no panel.
    """

    panels: Sequence[PredictionPanel]
    title: str

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _some(self.panels, "predictions", "at least one target")

    @classmethod
    def of(cls, found: Sequence[Prediction], title: str) -> PredictionData:
        """Convert predictions, one panel each."""
        return cls([PredictionPanel.of(one) for one in found], title)


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """One cluster of messages.

    Attributes:
        change: Mean change of position after the messages.
        null: Central 95% range of the mean change when messages are shuffled between clusters.
        n: Number of turns.
        n_texts: Number of distinct messages.
        domains: Domain -> share of the turns.
        nearest: Messages nearest the centre.
    """

    change: Estimate
    null: tuple[float, float]
    n: int
    n_texts: int
    domains: Mapping[str, float]
    nearest: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClusterData:
    """Clusters of messages by the change after them (section 4 of the paper).

    Attributes:
        rows: Clusters in the order in which they are drawn.
        spread: Highest minus lowest mean change.
        spread_null: Central 95% range of the spread under shuffling.
        spread_p_value: P-value of the spread.
        title: Title of the figure: what was clustered, with the model, the layer and the embedding.

    Raises:
        UsageError: If there is no row.
    """

    rows: Sequence[ClusterRow]
    spread: float
    spread_null: tuple[float, float]
    spread_p_value: float
    title: str

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _some(self.rows, "clusters", "at least one cluster")

    @classmethod
    def of(cls, found: Clusters, title: str) -> ClusterData:
        """Convert the clusters of a run."""
        rows = [
            ClusterRow(
                change=Estimate.of(one.change),
                null=(one.null_low, one.null_high),
                n=one.change.n,
                n_texts=one.n_texts,
                domains=one.domains,
                nearest=one.nearest,
            )
            for one in found.clusters
        ]
        return cls(rows, found.spread, found.spread_null, found.spread_p_value, title)


@dataclass(frozen=True, slots=True)
class ReplayPanel:
    """Positions of two runs with the same user messages.

    Attributes:
        name: Name of the domain, or id of the conversation.
        turns: Turn numbers, from 1, rising.
        plain: Position of the plain replies, with limits if they are means.
        planned: Position of the replies under the plan, with limits if they are means.
        fired: Share of the tokens on which a cap fired; None if no plan acted.
        n: Number of conversations at each turn.

    Raises:
        UsageError: If lengths differ, or the turns do not rise.
    """

    name: str
    turns: Sequence[int]
    plain: Series
    planned: Series
    fired: Sequence[float | None]
    n: Sequence[int]

    def __post_init__(self) -> None:
        """Check the turns, and that all values fit them."""
        rising(self.turns)
        count = len(self.turns)
        same_length("the turns", count, {"plain": self.plain.values, "planned": self.planned.values})
        same_length("the turns", count, {"n": self.n, "fired": [0.0 for _ in self.fired]})


@dataclass(frozen=True, slots=True)
class ReplayData:
    """Conversations replayed under a plan, next to the plain ones (section 5 of the paper).

    Attributes:
        panels: One panel per domain or conversation.
        title: Title of the figure: what was replayed, with the model and the layer.
        plain: Name of the plain run.
        planned: Name of the run under the plan.

    Raises:
        UsageError: If there is no panel.
    """

    panels: Sequence[ReplayPanel]
    title: str
    plain: str = "plain"
    planned: str = "with the plan"

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        _some(self.panels, "replays", "at least one conversation with a turn in both runs")

    @classmethod
    def of(
        cls, found: Replays, title: str, *, plain: str = "plain", planned: str = "with the plan"
    ) -> ReplayData:
        """Convert the comparison of two runs; a domain or conversation without turns has no panel."""
        panels = [
            ReplayPanel(
                name=pair.name,
                turns=[turn.turn + 1 for turn in pair.turns],
                plain=Series.of(turn.plain for turn in pair.turns),
                planned=Series.of(turn.planned for turn in pair.turns),
                fired=[turn.fired for turn in pair.turns],
                n=[turn.plain.n for turn in pair.turns],
            )
            for pair in found.pairs
            if pair.turns
        ]
        return cls(panels, title, plain, planned)


def _some(rows: Sequence[object], what: str, need: str) -> None:
    if not rows:
        raise UsageError(f"a figure of {what} has nothing to draw", hint=f"give {need}")
