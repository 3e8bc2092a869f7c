"""``personascope steer``, ``plan`` and ``norms``: try a direction, make a plan, measure its unit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import err, out, say_next
from personascope.cli._estimate import print_estimate
from personascope.cli._options import (
    ANYWAY,
    DRY_RUN,
    DTYPE,
    LAYER,
    MODEL,
    N_RANDOM,
    POPULATION,
    SEED,
    ControlName,
    DtypeName,
    PopulationName,
    finite,
    names,
    numbers,
)
from personascope.cli._run import open_run
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.api import Answer
    from personascope.interventions import Plan

plan_app = typer.Typer(help="Make a plan, or say what one does.", no_args_is_help=True)


def steer(
    run: Path = typer.Argument(..., help="Run folder of a map, or hub:owner/name."),
    question: str = typer.Argument("Who are you?", help="What the user says."),
    system: str = typer.Option("", help="System prompt."),
    strengths: str = typer.Option(
        "-0.4,-0.2,-0.1,0,0.1,0.2",
        help="Fractions of the layer's norm; negative moves away from the Assistant.",
    ),
    layer: int | None = LAYER,
    plan: Path | None = typer.Option(None, help="Compare no plan with this plan instead."),
    controls: str = typer.Option(
        "", help="Controls to show beside it: isotropic, shuffled, role-span, with commas."
    ),
    n_random: int = N_RANDOM,
    random: bool = typer.Option(False, "--random", help="The same as --controls isotropic --n-random 1."),
    max_new_tokens: int = typer.Option(48, min=1, help="Length of an answer at most."),
    temperature: float = typer.Option(0.0, callback=finite, min=0.0, help="0 takes the most likely token."),
    model: str | None = MODEL,
    dtype: DtypeName = DTYPE,
    anyway: bool = ANYWAY,
) -> None:
    """Answer one question at several strengths along the Assistant Axis, side by side."""
    wanted = numbers(strengths, "strengths")
    if random and controls:
        raise UsageError("--random and --controls were both given", hint="give --controls alone")
    acting = None if plan is None else api.open_plan(plan)
    mapped = open_run(run, model=model, dtype=dtype)
    _print_answers(
        "strength" if acting is None else "plan",
        api.steer(
            mapped,
            question,
            system=system,
            strengths=wanted,
            plan=acting,
            controls=("isotropic",) if random else names(controls),
            n_random=1 if random else n_random,
            layer=layer,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            anyway=anyway,
        ),
    )


def _print_answers(heading: str, answers: tuple[Answer, ...]) -> None:
    from rich.table import Table

    table = Table(show_lines=True)
    table.add_column(heading, justify="right")
    table.add_column("answer", overflow="fold")
    for answer in answers:
        stats = answer.completion.cap_stats
        share = (
            f"\n[dim]caps fired on {stats.firing_share:.0%} of the tokens[/]" if stats and stats.fired else ""
        )
        table.add_row(answer.name, answer.completion.text.replace("[", "\\[") + share)
    out.print(table)


def norms(
    run: Path = typer.Argument(..., help="Run folder of a map; the norms are kept there."),
    chats: str | None = typer.Option(
        None,
        help="JSON, JSONL or Parquet file of chats, or hub:owner/name[:split]; built-in if not given.",
    ),
    limit: int = typer.Option(10_000, min=1, help="Chats at most."),
    model: str | None = MODEL,
    dtype: DtypeName = DTYPE,
    dry_run: bool = DRY_RUN,
) -> None:
    """Measure the unit of strengths: the mean norm of the residual stream over ordinary chats."""
    work = api.measure_norms.prepare(open_run(run, model=model, dtype=dtype), chats, limit=limit)
    if dry_run:
        print_estimate(work.estimate)
        return
    measured = work.run()
    for problem in measured.skipped:
        err.print(f"[yellow]left out:[/] {problem}")
    out.print(f"{measured.chats} chats of {measured.source}, {measured.tokens:,} tokens")
    for layer, value in enumerate(measured.mean):
        out.print(f"{layer:4d} {value:10.2f}")


@plan_app.command("steer")
def plan_steer(
    run: Path = typer.Argument(..., help="Run folder of a map, or hub:owner/name."),
    strength: float = typer.Argument(
        ..., callback=finite, help="Fraction of the layer's norm; positive toward the Assistant."
    ),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the plan."),
    layer: int | None = LAYER,
    model: str | None = MODEL,
    dtype: DtypeName = DTYPE,
    anyway: bool = ANYWAY,
) -> None:
    """Make a plan that steers along the axis."""
    mapped = open_run(run, model=model, dtype=dtype)
    _write(api.make_steering_plan(mapped, strength, layer=layer, anyway=anyway), out_folder, run)


@plan_app.command("cap")
def plan_cap(
    run: Path = typer.Argument(..., help="Run folder of a map that kept responses (the default)."),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the plan."),
    layers: str | None = typer.Option(None, help="Band of layers, end-exclusive, such as 14:22."),
    axis_percentile: float | None = typer.Option(
        None,
        callback=finite,
        min=0.0,
        max=100.0,
        help="Floor: the percentile of role responses on the axis that lie below it. Higher is stronger.",
    ),
    released_percentile: float | None = typer.Option(
        None,
        callback=finite,
        min=0.0,
        max=100.0,
        help="The same in the authors' orientation (role - default): 25 here is 75 on the axis.",
    ),
    mean_plus_sd: float | None = typer.Option(
        None,
        callback=finite,
        help="Floor: so many standard deviations from the mean of role responses on the axis.",
    ),
    population: PopulationName = POPULATION,
    anyway: bool = ANYWAY,
) -> None:
    """Make a plan that holds the projection on the axis at or above a floor."""
    mapped = open_run(run)
    plan = api.make_cap_plan(
        mapped,
        layers=layers,
        axis_percentile=axis_percentile,
        released_percentile=released_percentile,
        mean_plus_sd=mean_plus_sd,
        population=population,
        anyway=anyway,
    )
    _write(plan, out_folder, run)


@plan_app.command("random")
def plan_random(
    run: Path = typer.Argument(..., help="Run folder of a map that kept responses (the default)."),
    plan: Path = typer.Argument(..., help="Folder of the plan whose control it is."),
    out_folder: Path = typer.Option(..., "--out", help="Folder of the control."),
    draw: int = typer.Option(0, min=0, help="Number of the control among those of its kind."),
    control: ControlName = typer.Option("isotropic", help="Kind of the control's directions."),
    seed: int = SEED,
) -> None:
    """Make a control of a plan: the same on another direction, caps with floors that fire as often."""
    made = api.make_random_control(open_run(run), plan, draw=draw, seed=seed, control=control)
    _write(made, out_folder, run)


@plan_app.command("explain")
def plan_explain(folder: Path = typer.Argument(..., help="Folder of a plan, or hub:owner/name.")) -> None:
    """Say in words what a plan does where."""
    out.print(api.open_plan(folder).explain(), markup=False)


def _write(plan: Plan, folder: Path, run: Path) -> None:
    plan.save(folder)
    out.print(plan.explain(), markup=False)
    out.print(f"written to {folder}")
    say_next(
        ("steer", run, "Who are you?", "--plan", folder), ("evaluate", "coherence", run, "--plan", folder)
    )
