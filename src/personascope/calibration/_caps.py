"""Cap plans from a map (layers and floors), and their controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personascope.calibration._controls import along_caps
from personascope.calibration._responses import POPULATIONS, Projections, Sample
from personascope.directions import (
    CONTROLS,
    N_CONTROLS,
    ControlKind,
    controls_of,
    on_control,
    plan_model,
)
from personascope.errors import UsageError
from personascope.evals import Condition
from personascope.interventions import Cap, Plan, PlanModel


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A band of layers, end-exclusive."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start}:{self.stop}"


def parse_window(text: str, n_layers: int) -> Window:
    """Parse a band of layers such as "14:22".

    Raises:
        UsageError: If the text is not of that form, or the band is empty or goes beyond the model.
    """
    start, colon, stop = text.partition(":")
    if not colon or not start.isdigit() or not stop.isdigit() or not int(start) < int(stop) <= n_layers:
        raise UsageError(
            f"{text!r} is no band of layers of a model with {n_layers}",
            hint="give the first layer and the one after the last, such as 14:22",
        )
    return Window(int(start), int(stop))


def default_windows(n_layers: int) -> tuple[Window, ...]:
    """Return bands of about an eighth and a quarter of the layers, in the middle to late part of the model.

    The paper's best bands lie at 0.72 to 0.84 of the depth (Qwen 3 32B, 8 of 64 layers) and 0.70 to 0.90
    (Llama 3.3 70B, 16 of 80). The default bands cover 0.4 to 0.95.
    """
    found: list[Window] = []
    for share in (0.13, 0.27):
        width = max(1, round(share * n_layers))
        for centre in (0.5, 0.65, 0.8):
            start = min(max(0, round(centre * n_layers - width / 2)), n_layers - width)
            found.append(Window(start, start + width))
    return tuple(dict.fromkeys(found))


def cap_plan(
    sample: Sample,
    window: Window,
    *,
    axis_percentile: float | None = None,
    mean_plus_sd: float | None = None,
    projections: Projections | None = None,
    model: PlanModel | None = None,
) -> Plan:
    """Return the plan that keeps the projection on the axis at or above a floor (section 5).

    Args:
        sample: Kept responses of the model's map.
        window: Layers to cap jointly.
        axis_percentile: Floor as a percentile of role responses on the axis.
        mean_plus_sd: Floor as a distance from the mean of role responses, in standard deviations, instead of
            a percentile.
        projections: Projections of the sample on the axis, to avoid computing them again.
        model: Model of the plan; the map's by default.

    Raises:
        UsageError: If not exactly one floor is given.
    """
    found = sample.persona_map
    along = projections or sample.project()

    def floor(layer: int) -> float:
        if axis_percentile is not None:
            return along.floor_at_axis_percentile(axis_percentile, layer)
        assert mean_plus_sd is not None
        return along.floor_at_mean_plus_sd(mean_plus_sd, layer)

    if (axis_percentile is None) == (mean_plus_sd is None):
        raise UsageError(
            f"a cap at axis percentile {axis_percentile} and mean + {mean_plus_sd} sd",
            hint="give one of them",
        )
    ops = tuple(
        Cap(layer, found.unit_axis(layer), floor=floor(layer)) for layer in range(window.start, window.stop)
    )
    where = (
        f"axis percentile {axis_percentile:g}"
        if axis_percentile is not None
        else f"mean {mean_plus_sd:+g} sd"
    )
    if sample.population != POPULATIONS[0]:
        where += f" of {sample.population}"
    return Plan(ops, model or plan_model(found), f"cap {window} at {where}")


def cap_conditions(
    sample: Sample,
    windows: Sequence[Window],
    axis_percentiles: Sequence[float],
    *,
    n_random: int = N_CONTROLS,
    controls: Sequence[ControlKind] = CONTROLS,
    seed: int = 0,
) -> tuple[Condition, ...]:
    """Return a cap for every window and percentile, each with its controls.

    A control keeps the projection on its direction at or above the same percentile of the same responses'
    projections on that direction, so it would fire on as many of them.

    Args:
        sample: Kept responses of the model's map.
        windows: Bands of layers.
        axis_percentiles: Floors, as percentiles of role responses on the axis.
        n_random: Number of controls of each kind.
        controls: Kinds of controls.
        seed: Random seed of the controls.

    Raises:
        UsageError: If role-span controls are asked for and the map has too few role vectors.
    """
    along = sample.project()
    found = sample.persona_map
    layers = sorted({layer for window in windows for layer in range(window.start, window.stop)})
    everywhere = [Cap(layer, found.unit_axis(layer), floor=0.0) for layer in layers]
    on_controls = {
        control: along_caps(sample, everywhere, control)
        for control in controls_of(controls, n_random, seed=seed)
    }
    conditions: list[Condition] = []
    for window in windows:
        for percentile in axis_percentiles:
            plan = cap_plan(sample, window, axis_percentile=percentile, projections=along)
            name = f"cap {window} p{percentile:g}"
            conditions.append(Condition(name, "axis", plan))
            for control, projections in on_controls.items():
                floors = {
                    layer: projections.floor_at_axis_percentile(percentile, layer) for layer in plan.layers
                }
                capped = on_control(plan, control, persona_map=found, floors=floors)
                conditions.append(
                    Condition(
                        f"{control.name} of {name}",
                        "random",
                        capped,
                        random_index=control.index,
                        control_of=(name,),
                        control=control.kind,
                    )
                )
    return tuple(conditions)
