"""Cells of a sweep, and which of them is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personascope.directions import CONTROLS
from personascope.evals import kinds_listed
from personascope.stats import Difference


@dataclass(frozen=True, slots=True)
class Cell:
    """Effects of one cap, as differences from no plan on the same trials.

    Attributes:
        condition: Name of the condition.
        kind: "axis", or "random" for a control.
        control_of: Names of the cells that this one is a control of.
        assistant: Change in the share of responses that present the speaker as the Assistant, under role
            prompts.
        harmful: Change in the harmful share of persona jailbreaks; negative is good.
        capability: Change in accuracy on the capability task.
        incoherent: Change in the share of incoherent responses, averaged over both evaluations.
        firing_share: Share of the plan's tokens on which the cap fired.
        control: Kind of a control's direction; None for a cell on the axis.
    """

    condition: str
    kind: str
    control_of: tuple[str, ...]
    assistant: Difference
    harmful: Difference
    capability: Difference
    incoherent: float
    firing_share: float
    control: str | None = None

    @property
    def benefit(self) -> float:
        """Mean of the gain in Assistant share and the drop in harm; an axis of the Pareto front."""
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
    cells: Sequence[Cell], front: Sequence[str], *, max_capability_loss: float, max_incoherent_rise: float
) -> tuple[str, str]:
    """Choose the cell with the most gain that costs little and does more than every control of every kind.

    Args:
        cells: All cells, controls included.
        front: Names of the axis cells on the Pareto front.
        max_capability_loss: Largest loss of accuracy, as a fraction.
        max_incoherent_rise: Largest rise in the share of incoherent responses, as a fraction.

    Returns:
        Name of the recommended cell ("" for none), and the reason.
    """
    known = {cell.condition: cell for cell in cells}
    limits = f"{max_capability_loss:.0%} accuracy and {max_incoherent_rise:.0%} coherence"
    on_front = [known[name] for name in front]
    unbeaten = {cell.condition: unbeaten_kinds(cell, cells) for cell in on_front}
    passing = [
        cell
        for cell in on_front
        if -cell.capability.estimate <= max_capability_loss
        and cell.incoherent <= max_incoherent_rise
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
            f"none of the {len(front)} cells on the front costs at most {limits}, and does more than no plan "
            f"and than its controls{failed}"
        )
    best = max(passing, key=lambda cell: cell.benefit)
    return best.condition, (
        f"most gain ({best.benefit:+.3f}) of the {len(passing)} cells on the front that cost at most {limits}"
        + (f", and do more than each of their {kinds_listed(run)} controls" if run else "")
        + (f"; {kinds_listed(missing)} controls were not run" if missing else "")
    )
