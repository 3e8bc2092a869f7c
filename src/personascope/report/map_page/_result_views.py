"""What the report shows of a run's evaluations, sweep and conversations, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """An estimate with its 95% interval.

    Attributes:
        estimate: Estimate, or None if there is none.
        low: Lower end, or None.
        high: Upper end, or None.
        n: Number of items behind it.
    """

    estimate: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One measure under one condition of an evaluation.

    Attributes:
        condition: Name of the condition.
        kind: "plain", "axis", "plan", or the kind of a control.
        measure: Name of the measure.
        share: Share of the trials.
        change: Difference from no plan on the same trials; None for no plan itself.
        conclusion: Whether the difference is called an effect, in words; "" for controls.
    """

    condition: str
    kind: str
    measure: str
    share: Range
    change: Range | None = None
    conclusion: str = ""


@dataclass(frozen=True)
class EvaluationView:
    """An evaluation of the run.

    Attributes:
        name: Name of the evaluation.
        rows: Rows, condition by condition.
        notes: Sentences that the reader must know.
        caveats: Measure -> what stands beside its values.
    """

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    caveats: dict[str, str]


@dataclass(frozen=True)
class SweepCell:
    """One plan of the sweep, or a control of one; all values are differences from no plan.

    Attributes:
        condition: Name of the condition.
        control: Kind of a control's direction; "" for a plan on the axis.
        assistant: Change of the Assistant share.
        harmful: Change of the harmful share.
        capability: Change of the accuracy.
        incoherent: Change of the incoherent share.
        firing: Share of tokens on which the cap fired.
        benefit: Size of the wanted effect. Toward the Assistant it is the mean of the gain in Assistant share
            and the drop in harm, away from it the drop in Assistant share.
        kl: KL divergence from no plan on ordinary chats, in nats a token; None if it was not measured.
        strength: Steering strength, a fraction of the layer's norm; None for caps.
        layer: Layer that is steered at; None for caps.
        front: Whether it is on the Pareto front.
    """

    condition: str
    control: str
    assistant: Range
    harmful: Range
    capability: Range
    incoherent: float | None
    firing: float | None
    benefit: float | None
    kl: Range | None = None
    strength: float | None = None
    layer: int | None = None
    front: bool = False


@dataclass(frozen=True)
class SweepView:
    """A calibration sweep of the run.

    Attributes:
        cells: Plans and their controls.
        recommended: Name of the recommended plan; "" if there is none.
        why: Why it is recommended, or why none is.
        notes: Sentences that the reader must know.
        away: Whether the wanted effect is away from the Assistant.
    """

    cells: tuple[SweepCell, ...]
    recommended: str
    why: str
    notes: tuple[str, ...]
    away: bool = False


@dataclass(frozen=True)
class Domain:
    """Mean positions of one domain's conversations, turn by turn.

    Attributes:
        domain: Name of the domain.
        n: Number of conversations.
        turns: Index of each turn, from 0.
        positions: Mean position at each of them, in units of the map.
        change: Mean change from the first reply to the last.
    """

    domain: str
    n: int
    turns: tuple[int, ...]
    positions: tuple[Range, ...]
    change: Range


@dataclass(frozen=True)
class TalksView:
    """Conversations of the run that were analysed.

    Attributes:
        name: Name of their folder.
        layer: Layer of the positions.
        domains: Domains in the run's order.
        notes: Sentences that the reader must know.
    """

    name: str
    layer: int
    domains: tuple[Domain, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MonitorRule:
    """False alarms of one rule of the drift monitor, on conversations that it was not calibrated on.

    Attributes:
        rule: Name of the rule.
        of: Conversations that it was tried on.
        alarms: Share of them that raise an alarm.
    """

    rule: str
    of: str
    alarms: Range
