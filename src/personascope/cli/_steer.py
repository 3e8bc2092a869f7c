"""``personascope steer``, ``plan`` and ``norms``: try a direction, make a plan, measure its unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from personascope.calibration import (
    Sample,
    axis_percentile_of_released,
    cap_plan,
    default_windows,
    parse_window,
    random_control,
)
from personascope.chat import Message
from personascope.cli._console import err, out, say
from personascope.cli._engine import open_engine, open_map, run_folder
from personascope.cli._options import ANYWAY, DTYPE, LAYER, MODEL, SEED, DtypeName, numbers
from personascope.cli._verdict import open_found_map
from personascope.corpus.datasets import load_chats
from personascope.directions import norms_for, random_unit, steering_plan
from personascope.engines import Request, Sampling
from personascope.errors import UsageError
from personascope.evals import PLAIN, Condition
from personascope.interventions import Plan

if TYPE_CHECKING:
    from personascope.calibration import Window
    from personascope.chat import Conversation
    from personascope.engines import Completion


plan_app = typer.Typer(help="Make a plan, or say what one does.", no_args_is_help=True)


def steer(
    run: Path = typer.Argument(..., help="Run folder of a map."),
    question: str = typer.Argument("Who are you?", help="What the user says."),
    system: str = typer.Option("", help="System prompt."),
    strengths: str = typer.Option(
        "-0.4,-0.2,-0.1,0,0.1,0.2",
        help="Fractions of the layer's norm; negative moves away from the Assistant.",
    ),
    layer: int = LAYER,
    plan: Path = typer.Option(None, help="Compare no plan with this plan instead."),
    random: bool = typer.Option(
        False, "--random", help="Show a random direction of the same length beside it."
    ),
    max_new_tokens: int = typer.Option(48, min=1, help="Length of an answer at most."),
    temperature: float = typer.Option(0.0, min=0.0, help="0 takes the most likely token."),
    model: str = MODEL,
    dtype: DtypeName = DTYPE,
    anyway: bool = ANYWAY,
) -> None:
    """Answer one question at several strengths along the Assistant Axis, side by side."""
    wanted = numbers(strengths, "strengths")
    given = None if plan is None else Plan.load(plan)
    persona_map = open_map(run) if given is not None else open_found_map(run, anyway=anyway)
    _, engine = open_engine(persona_map, model=model, dtype=dtype, layer=layer)
    conditions: list[Condition]
    if given is not None:
        conditions = [PLAIN, Condition("plan", "plan", given)]
    else:
        measured = norms_for(engine, run_folder(run))
        conditions = []
        for strength in wanted:
            what = steering_plan(persona_map, strength, measured.mean, layer=layer) if strength else None
            conditions.append(Condition(f"{strength:+g}" if strength else "0", "axis", what, strength))
            if random and strength:
                direction = random_unit(persona_map.d_model, 0)
                other = steering_plan(persona_map, strength, measured.mean, layer=layer, direction=direction)
                conditions.append(Condition(f"{strength:+g} random", "random", other, strength))
    talk: Conversation = (Message("user", question),)
    if system:
        talk = (Message("system", system), *talk)
    say(f"answering under {len(conditions)} conditions")
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    done: dict[str, Completion] = {
        c.id: c for c in engine.run(Request(c.name, talk, sampling, plan=c.plan) for c in conditions)
    }
    table = Table(show_lines=True)
    table.add_column("strength" if plan is None else "plan", justify="right")
    table.add_column("answer", overflow="fold")
    for condition in conditions:
        completion = done[condition.name]
        telemetry = completion.telemetry
        share = (
            f"\n[dim]caps fired on {telemetry.firing_share:.0%} of the tokens[/]"
            if telemetry and telemetry.fired
            else ""
        )
        table.add_row(condition.name, completion.text.replace("[", "\\[") + share)
    out.print(table)


def norms(
    run: Path = typer.Argument(..., help="Run folder of a map; the norms are kept there."),
    chats: str = typer.Option(
        None,
        help="JSON, JSONL or Parquet file of chats, or hub:owner/name[:split]; built-in if not given.",
    ),
    limit: int = typer.Option(10_000, min=1, help="Chats at most."),
    model: str = MODEL,
    dtype: DtypeName = DTYPE,
) -> None:
    """Measure the unit of strengths: the mean norm of the residual stream over ordinary chats."""
    chosen = load_chats(chats, limit=limit)
    for problem in chosen.problems:
        err.print(f"[yellow]left out:[/] {problem}", markup=True)
    _, engine = open_engine(run, model=model, dtype=dtype)
    measured = norms_for(engine, run_folder(run), chats=chosen.chats, source=chosen.source)
    for problem in measured.skipped:
        err.print(f"[yellow]left out:[/] {problem}")
    out.print(f"{measured.chats} chats of {measured.source}, {measured.tokens:,} tokens")
    for layer, value in enumerate(measured.mean):
        out.print(f"{layer:4d} {value:10.2f}")


@plan_app.command("steer")
def plan_steer(
    run: Path = typer.Argument(..., help="Run folder of a map."),
    strength: float = typer.Argument(
        ..., help="Fraction of the layer's norm; positive toward the Assistant."
    ),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the plan."),
    layer: int = LAYER,
    model: str = MODEL,
    dtype: DtypeName = DTYPE,
    anyway: bool = ANYWAY,
) -> None:
    """Make a plan that steers along the axis."""
    persona_map = open_found_map(run, anyway=anyway)
    _, engine = open_engine(persona_map, model=model, dtype=dtype, layer=layer)
    measured = norms_for(engine, run_folder(run))
    _write(steering_plan(persona_map, strength, measured.mean, layer=layer), out_folder)


@plan_app.command("cap")
def plan_cap(
    run: Path = typer.Argument(..., help="Run folder of a map that kept responses (the default)."),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the plan."),
    layers: str = typer.Option(None, help="Band of layers, end-exclusive, such as 14:22."),
    axis_percentile: float = typer.Option(
        None,
        min=0.0,
        max=100.0,
        help="Floor: the percentile of role responses on the axis that lie below it. Higher is stronger.",
    ),
    released_percentile: float = typer.Option(
        None,
        min=0.0,
        max=100.0,
        help="The same in the authors' orientation (role - default): 25 here is 75 on the axis.",
    ),
    mean_plus_sd: float = typer.Option(
        None, help="Floor: so many standard deviations from the mean of role responses on the axis."
    ),
    anyway: bool = ANYWAY,
) -> None:
    """Make a plan that holds the projection on the axis at or above a floor."""
    if sum(floor is not None for floor in (axis_percentile, released_percentile, mean_plus_sd)) != 1:
        raise UsageError(
            "one floor is needed",
            hint="give --axis-percentile 75, or --released-percentile 25 (the same)",
        )
    if released_percentile is not None:
        axis_percentile = axis_percentile_of_released(released_percentile)
    open_found_map(run, anyway=anyway)
    sample = Sample.open(run_folder(run))
    n_layers = sample.persona_map.n_layers
    window: Window = default_windows(n_layers)[-1] if layers is None else parse_window(layers, n_layers)
    _write(cap_plan(sample, window, axis_percentile=axis_percentile, mean_plus_sd=mean_plus_sd), out_folder)


@plan_app.command("random")
def plan_random(
    run: Path = typer.Argument(..., help="Run folder of a map that kept responses (the default)."),
    plan: Path = typer.Argument(..., help="Folder of the plan whose control it is."),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the control."),
    draw: int = typer.Option(0, min=0, help="Number of the random direction."),
    seed: int = SEED,
) -> None:
    """Make the control of a plan: the same on a random direction, caps with floors that fire as often."""
    _write(random_control(run_folder(run), Plan.load(plan), draw, seed=seed), out_folder)


@plan_app.command("explain")
def plan_explain(folder: Path = typer.Argument(..., help="Folder of a plan.")) -> None:
    """Say in words what a plan does where."""
    out.print(Plan.load(folder).explain(), markup=False)


def _write(plan: Plan, folder: Path) -> None:
    plan.save(folder)
    out.print(plan.explain(), markup=False)
    out.print(f"written to {folder}")
