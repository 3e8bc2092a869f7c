"""Cells of a sweep, and which of them is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personascope.directions import CONTROLS
from personascope.evals import kinds_listed
from personascope.stats import Difference, Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """Effects of one plan, as differences from no plan on the same trials, and its price.

    Attributes:
        condition: Name of the condition.
        kind: "axis", or "random" for a control.
        control_of: Names of the cells that this one is a control of.
        assistant: Change in the share of responses that present the speaker as the Assistant, under role
            prompts.
        harmful: Change in the harmful share of persona jailbreaks; negative is good.
        capability: Change in accuracy on the capability task.
        incoherent: Change in the share of incoherent responses, averaged over both evaluations.
        firing_share: Share of the plan's tokens on which the cap fired; 0 for steering.
        kl: KL(no plan || plan) on ordinary chats, in nats per token.
        control: Kind of a control's direction; None for a cell on the axis.
        away: Whether the wanted effect is away from the Assistant.
        strength: Steering strength, as a fraction of the layer's norm; None for caps. A control serves both
            signs, and its strength has none.
        layer: Layer that is steered at; None for caps.
    """

    condition: str
    kind: str
    control_of: tuple[str, ...]
    assistant: Difference
    harmful: Difference
    capability: Difference
    incoherent: float
    firing_share: float
    kl: Interval
    control: str | None = None
    away: bool = False
    strength: float | None = None
    layer: int | None = None

    @property
    def benefit(self) -> float:
        """Size of the wanted effect; an axis of the Pareto front.

        Toward the Assistant, it is the mean of the gain in Assistant share and the drop in harm. Away from
        it, it is the drop in Assistant share: a rise in harm is no gain.
        """
        if self.away:
            return -self.assistant.estimate
        return (self.assistant.estimate - self.harmful.estimate) / 2

    @property
    def cost(self) -> float:
        """Loss of accuracy plus any rise in incoherence; the other axis of the Pareto front."""
        return -self.capability.estimate + max(0.0, self.incoherent)


def unbeaten_kinds(cell: Cell, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the kinds of controls of which one has at least the benefit of a cell."""
    own = [other for other in cells if cell.condition in other.control_of]
    equals = {other.control for other in own if other.benefit >= cell.benefit}
    return tuple(kind for kind in CONTROLS if kind in equals)


def recommend(
    cells: Sequence[Cell],
    front: Sequence[str],
    *,
    max_capability_loss: float,
    max_incoherent_rise: float,
    max_kl: float | None = None,
    min_effect: float | None = None,
) -> tuple[str, str]:
    """Choose the best cell that costs little and does more than every control of every kind.

    Without a wanted size of the effect, the best cell has the most gain, and must lie on the Pareto front.
    With one, it is the cell of least KL divergence that reaches it.

    Args:
        cells: All cells, controls included.
        front: Names of the axis cells on the Pareto front.
        max_capability_loss: Largest loss of accuracy, as a fraction.
        max_incoherent_rise: Largest rise in the share of incoherent responses, as a fraction.
        max_kl: Largest KL divergence from no plan on ordinary chats, in nats per token; None for any.
        min_effect: Wanted size of the effect; None for the largest.

    Returns:
        Name of the recommended cell ("" for none), and the reason.
    """
    known = {cell.condition: cell for cell in cells}
    limits = [f"{max_capability_loss:.0%} accuracy", f"{max_incoherent_rise:.0%} coherence"]
    limits += [] if max_kl is None else [f"{max_kl:g} nats a token"]
    costing = f"at most {', '.join(limits[:-1])} and {limits[-1]}"
    if min_effect is None:
        where, candidates = "cells on the front", [known[name] for name in front]
    else:
        where, candidates = (
            f"cells with a gain of {min_effect:g}",
            [cell for cell in cells if cell.kind == "axis" and cell.benefit >= min_effect],
        )
    unbeaten = {cell.condition: unbeaten_kinds(cell, cells) for cell in candidates}
    passing = [
        cell
        for cell in candidates
        if -cell.capability.estimate <= max_capability_loss
        and cell.incoherent <= max_incoherent_rise
        and (max_kl is None or cell.kl.estimate <= max_kl)
        and cell.benefit > 0
        and not unbeaten[cell.condition]
    ]
    run = [kind for kind in CONTROLS if any(cell.control == kind for cell in cells)]
    missing = [kind for kind in CONTROLS if kind not in run]
    if not passing:
        counted = [(kind, sum(kind in found for found in unbeaten.values())) for kind in CONTROLS]
        failed = "".join(
            f"; {count} of them {'does' if count == 1 else 'do'} no more than {kinds_listed([kind])} controls"
            for kind, count in counted
            if count
        )
        return "", (
            f"none of the {len(candidates)} {where} costs {costing}, and does more than no plan and than its "
            f"controls{failed}"
        )
    if min_effect is None:
        best = max(passing, key=lambda cell: cell.benefit)
        chosen = f"most gain ({best.benefit:+.3f})"
    else:
        best = min(passing, key=lambda cell: cell.kl.estimate)
        chosen = f"least KL divergence ({best.kl.estimate:.3f} nats a token, gain {best.benefit:+.3f})"
    return best.condition, (
        f"{chosen} of the {len(passing)} {where} that cost {costing}"
        + (f", and do more than each of their {kinds_listed(run)} controls" if run else "")
        + (f"; {kinds_listed(missing)} controls were not run" if missing else "")
    )
