"""Floors of control caps: a control direction is capped so that it fires as often as the plan's own caps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from personascope.calibration._responses import Projections, Sample
from personascope.directions import Control, on_control
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan
from personascope.space import PersonaMap


def along_caps(sample: Sample, caps: Sequence[Cap], control: Control | None = None) -> Projections:
    """Project responses on the directions of caps, or of a control of them; at other layers on the axis.

    Raises:
        UsageError: If the control needs role vectors that the map has not.
    """
    directions = np.array(sample.persona_map.axis, np.float64)
    for cap in caps:
        directions[cap.layer] = (
            cap.direction
            if control is None
            else control.direction(cap.direction, cap.layer, sample.persona_map)
        )
    return sample.project(directions)


def matching_floors(
    sample: Sample, caps: Sequence[Cap], control: Control, *, own: Projections | None = None
) -> dict[int, float]:
    """Return, for each layer, the floor on a control's direction at the percentile of the cap's floor.

    Both percentiles are taken among the projections of role responses, on the cap's own direction and on the
    control's. The control would so fire on as many of them, whatever its kind. How far it moves an activation
    still depends on how much responses differ along its direction.

    Args:
        sample: Kept responses of the model's map.
        caps: Caps with a floor, at most one per layer.
        control: Control.
        own: Projections on the caps' own directions, to avoid computing them again.

    Raises:
        UsageError: If a layer has two caps, a cap has no floor, or role vectors are missing.
    """
    for cap in caps:
        if cap.floor is None or [other.layer for other in caps].count(cap.layer) > 1:
            raise UsageError(
                f"the caps of layer {cap.layer} have no control",
                hint="a control is made for one cap with a floor at each layer",
            )
    own = own or along_caps(sample, caps)
    other = along_caps(sample, caps, control)
    floors: dict[int, float] = {}
    for cap in caps:
        percentile = float((own.values[:, cap.layer] < cap.floor).mean() * 100)
        floors[cap.layer] = other.floor_at_axis_percentile(percentile, cap.layer)
    return floors


def control_plans(
    run: Path, persona_map: PersonaMap, plan: Plan, controls: Sequence[Control]
) -> tuple[Plan, ...]:
    """Return a plan along the direction of each control; the floors of caps are `matching_floors`.

    Args:
        run: Run folder of the model's map, whose kept responses are read if the plan has caps.
        persona_map: Map of the model.
        plan: Plan of steering, or of caps with a floor, at most one per layer.
        controls: Controls.

    Raises:
        UsageError: If the plan has no such control, or role vectors are missing.
        EvaluationError: If the plan has caps and the run kept no response.
    """
    caps = [op for op in plan.ops if isinstance(op, Cap)]
    if not caps or not controls:
        return tuple(on_control(plan, control, persona_map=persona_map) for control in controls)
    sample = Sample.open(run)
    own = along_caps(sample, caps)
    return tuple(
        on_control(
            plan,
            control,
            persona_map=persona_map,
            floors=matching_floors(sample, caps, control, own=own),
        )
        for control in controls
    )
