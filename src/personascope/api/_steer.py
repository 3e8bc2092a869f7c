"""Steering: answer a question at several strengths, create plans, and measure norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from personascope.api._comparison import checked_kinds, with_controls
from personascope.api._estimate import Prepared, WorkEstimate, estimable
from personascope.api._inputs import as_plan, open_plan
from personascope.api._mapped_model import MappedModel
from personascope.calibration import (
    Sample,
    axis_percentile_of_released,
    cap_plan,
    control_plans,
    default_windows,
    parse_window,
)
from personascope.chat import Conversation, Message
from personascope.corpus.datasets import load_chats
from personascope.directions import (
    N_CONTROLS,
    Control,
    Norms,
    controls_of,
    estimate_norms,
    norms_for,
    read_kinds,
    steering_plan,
)
from personascope.engines import Completion, Request, Sampling
from personascope.errors import UsageError
from personascope.evals import PLAIN, Condition
from personascope.interventions import Plan

STEER_STRENGTHS = (-0.4, -0.2, -0.1, 0.0, 0.1, 0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """An answer under a condition.

    Attributes:
        name: Name of the condition, such as the strength.
        completion: Completion with the answer.
    """

    name: str
    completion: Completion


def steer(
    mapped: MappedModel,
    question: str = "Who are you?",
    *,
    system: str = "",
    strengths: Sequence[float] = STEER_STRENGTHS,
    plan: Plan | Path | str | None = None,
    controls: Sequence[str] = (),
    n_random: int = N_CONTROLS,
    layer: int | None = None,
    max_new_tokens: int = 48,
    temperature: float = 0.0,
    anyway: bool = False,
) -> tuple[Answer, ...]:
    """Answer one question at several strengths along the Assistant Axis, or without and with a plan.

    Args:
        mapped: Mapped model.
        question: User message.
        system: System prompt.
        strengths: Steering strengths as fractions of the layer's norm; negative moves away from the
            Assistant.
        plan: Plan to compare with no plan, instead of strengths.
        controls: Kinds of controls to answer under too: "isotropic", "shuffled", "role-span".
        n_random: Number of controls of each kind, for each strength or for the plan.
        layer: Layer to steer at; the map's middle layer if not given.
        max_new_tokens: Maximum length of an answer, in tokens.
        temperature: Sampling temperature; 0 takes the most likely token.
        anyway: Continue even if the map found no axis.

    Raises:
        SpaceError: If the map found no axis and no plan is given.
        UsageError: If the map has no such layer, a kind of control is unknown, or the map has too few role
            vectors for role-span controls.
    """
    acting = as_plan(plan)
    if acting is None:
        mapped.require_axis(anyway=anyway)
    mapped.layer(layer)
    kinds = checked_kinds(mapped, controls, n_random)
    if acting is None:
        conditions = _along_the_axis(mapped, strengths, controls_of(kinds, n_random), layer)
    else:
        conditions = [PLAIN, *with_controls(mapped, {"plan": acting}, n_random, kinds)]
    conversation: Conversation = (Message("user", question),)
    if system:
        conversation = (Message("system", system), *conversation)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    requests = [Request(c.name, conversation, sampling, plan=c.plan) for c in conditions]
    engine = mapped.engine
    mapped.tell(f"answering under {len(conditions)} conditions ...")
    done = {completion.id: completion for completion in engine.run(requests)}
    return tuple(Answer(condition.name, done[condition.name]) for condition in conditions)


def _along_the_axis(
    mapped: MappedModel, strengths: Sequence[float], controls: Sequence[Control], layer: int | None
) -> list[Condition]:
    persona_map, norms = mapped.persona_map, mapped.norms()
    at = mapped.layer(layer)
    axis = persona_map.unit_axis(at)
    conditions: list[Condition] = []
    for strength in strengths:
        plan = steering_plan(persona_map, strength, norms, layer=layer) if strength else None
        conditions.append(Condition(f"{strength:+g}" if strength else "0", "axis", plan, strength))
        for control in controls if strength else ():
            direction = control.direction(axis, at, persona_map)
            plan = steering_plan(persona_map, strength, norms, layer=layer, direction=direction)
            # The name seeds the sampling, and the first isotropic control had no number.
            name = f"{strength:+g} {control.name.removesuffix(' 0')}"
            conditions.append(
                Condition(name, "random", plan, strength, control.index, (f"{strength:+g}",), control.kind)
            )
    return conditions


@estimable
def measure_norms(mapped: MappedModel, chats: str | None = None, *, limit: int = 10_000) -> Prepared[Norms]:
    """Measure the mean norm over ordinary chats, the unit of strengths, and store it in the run folder.

    Args:
        mapped: Mapped model.
        chats: File or ``hub:owner/name[:split]`` of chats; the built-in ones if not given.
        limit: Maximum number of chats.

    Raises:
        EvaluationError: If no chat could be measured.
    """
    chosen = load_chats(chats, limit=limit)
    for problem in chosen.problems:
        mapped.tell(f"left out: {problem}")
    folder = mapped.layout.folder

    def estimate() -> WorkEstimate:
        _, step = estimate_norms(mapped.engine, folder, chosen.chats)
        remark = f"{len(chosen.chats)} chats of {chosen.source}"
        return WorkEstimate("norms", () if step is None else (step,), (mapped.layout.norms,), (remark,))

    def run() -> Norms:
        return norms_for(
            mapped.engine, folder, chats=chosen.chats, source=chosen.source, progress=mapped.progress
        )

    return Prepared(estimate, run)


def make_steering_plan(
    mapped: MappedModel, strength: float, *, layer: int | None = None, anyway: bool = False
) -> Plan:
    """Create a plan that steers along the axis by a fraction of the layer's norm.

    Raises:
        SpaceError: If the map found no axis.
        UsageError: If the map has no such layer.
    """
    mapped.require_axis(anyway=anyway)
    mapped.layer(layer)
    return steering_plan(mapped.persona_map, strength, mapped.norms(), layer=layer)


def make_cap_plan(
    mapped: MappedModel,
    *,
    layers: str | None = None,
    axis_percentile: float | None = None,
    released_percentile: float | None = None,
    mean_plus_sd: float | None = None,
    population: str = "roles",
    anyway: bool = False,
) -> Plan:
    """Create a plan that keeps the projection on the axis at or above a floor; the model is not loaded.

    Args:
        mapped: Mapped model, whose run kept responses (the default).
        layers: Band of layers, end-exclusive, such as "14:22"; the last default band if not given.
        axis_percentile: Floor as a percentile of role responses on the axis.
        released_percentile: Floor as a percentile in the authors' orientation (role - default).
        mean_plus_sd: Floor as a distance from the mean of role responses on the axis, in standard deviations.
        population: Responses that the floor is taken among: "roles", or "roles and traits" as in the paper.
        anyway: Continue even if the map found no axis.

    Raises:
        UsageError: If not exactly one floor is given, or the band of layers does not fit the map.
        SpaceError: If the map found no axis.
        EvaluationError: If the run kept no response.
    """
    if sum(floor is not None for floor in (axis_percentile, released_percentile, mean_plus_sd)) != 1:
        raise UsageError(
            "one floor is needed",
            hint="give --axis-percentile 75, or --released-percentile 25 (the same)",
        )
    if released_percentile is not None:
        axis_percentile = axis_percentile_of_released(released_percentile)
    mapped.require_axis(anyway=anyway)
    n_layers = mapped.persona_map.n_layers
    window = default_windows(n_layers)[-1] if layers is None else parse_window(layers, n_layers)
    sample = Sample.open(mapped.layout.folder, population)
    return cap_plan(sample, window, axis_percentile=axis_percentile, mean_plus_sd=mean_plus_sd)


def make_random_control(
    mapped: MappedModel,
    plan: Plan | Path | str,
    *,
    draw: int = 0,
    seed: int = 0,
    control: str = "isotropic",
) -> Plan:
    """Create a control of a plan, with floors of caps that fire equally often.

    Args:
        mapped: Mapped model.
        plan: Plan of steering, or of caps with a floor, at most one per layer.
        draw: Index of the control among those of its kind.
        seed: Random seed.
        control: Kind of the control: "isotropic", "shuffled" or "role-span".

    Raises:
        UsageError: If the plan has no such control, the kind is unknown, or the map has too few role vectors.
        EvaluationError: If the plan has caps and the run kept no response.
    """
    (kind,) = read_kinds([control])
    (made,) = control_plans(
        mapped.layout.folder, mapped.persona_map, open_plan(plan), [Control(kind, draw, seed)]
    )
    return made
