"""``personascope calibrate``: the sweep that finds a cap, or a layer and strength to steer at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out, say_next
from personascope.cli._estimate import print_estimate
from personascope.cli._grid import grid
from personascope.cli._groups import EngineOptions, JudgeOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    ANYWAY,
    CONTROLS,
    CORPUS,
    DRY_RUN,
    N_RANDOM,
    PERSONAS,
    POPULATION,
    RESTART,
    RUN_KEPT,
    SEED,
    PopulationName,
    finite,
    integers,
    names,
    numbers,
)
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.calibration import Calibration


@grouped
def calibrate_model(
    run: Path = RUN_KEPT,
    out_folder: Path | None = typer.Option(
        None, "--out", help="Folder of the sweep; <run>/calibration if not given."
    ),
    steer: bool = typer.Option(
        False, "--steer/--cap", help="Sweep steering over layers and strengths instead of caps."
    ),
    strengths: str | None = typer.Option(
        None,
        help="Steering strengths, as fractions of the layer's norm: all toward the Assistant, or all "
        "(negative) away from it; 0.05,0.1,0.2 if not given.",
    ),
    layers: str | None = typer.Option(
        None, help="Layers to steer at, one at a time; the middle layer and one to each side if not given."
    ),
    windows: str | None = typer.Option(None, help="Bands of layers with commas, such as 14:22,18:26."),
    axis_percentiles: str | None = typer.Option(
        None,
        help="Floors as percentiles of role responses on the axis, higher is stronger; 25,50,75,90 if not "
        "given.",
    ),
    n_random: int = N_RANDOM,
    controls: str = CONTROLS,
    roles: int = typer.Option(50, min=1, help="Roles of the susceptibility trials."),
    prompts: int = typer.Option(1, min=1, help="System prompts of each role."),
    dataset: str | None = typer.Option(None, help="Jailbreak set; the built-in mild one if not given."),
    personas: str | None = PERSONAS,
    jailbreaks: int | None = typer.Option(None, min=1, help="Jailbreak pairs at most."),
    questions: int | None = typer.Option(
        None, min=1, max=160, help="Questions of the capability task; 160 if not given."
    ),
    chats: int = typer.Option(
        40, min=2, max=40, help="Ordinary chats that the KL divergence is measured on."
    ),
    max_capability_loss: float = typer.Option(
        0.02, callback=finite, min=0.0, help="Accuracy that a recommended plan may cost."
    ),
    max_kl: float | None = typer.Option(
        None,
        callback=finite,
        min=0.0,
        help="KL divergence from no plan, in nats a token, that a recommended plan may cost.",
    ),
    min_effect: float | None = typer.Option(
        None,
        callback=finite,
        min=0.0,
        help="Wanted effect: the plan that reaches it at the least KL divergence is recommended, instead of "
        "the largest effect.",
    ),
    population: PopulationName = POPULATION,
    corpus: Path | None = CORPUS,
    judge: JudgeOptions = JudgeOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    anyway: bool = ANYWAY,
    dry_run: bool = DRY_RUN,
) -> None:
    """Sweep caps (or, with --steer, layers and strengths) and recommend one (section 5 of the paper)."""
    chosen = judge.choose()
    unread: dict[str, object] = {"windows": windows, "axis-percentiles": axis_percentiles}
    if not steer:
        unread = {"strengths": strengths, "layers": layers}
    elif population != "roles":
        unread["population"] = population
    for name, value in unread.items():
        if value is not None:
            kind, other = ("steering", "--cap") if steer else ("caps", "--steer")
            raise UsageError(f"--{name} is not for a sweep of {kind}", hint=f"leave it out, or give {other}")
    settings = api.SweepSettings(
        strengths=tuple(numbers(strengths or "0.05,0.1,0.2", "strengths")) if steer else (),
        layers=None if layers is None else tuple(integers(layers, "layers")),
        chats=chats,
        n_random=n_random,
        controls=names(controls),
        roles=roles,
        prompts=prompts,
        jailbreaks=jailbreaks,
        questions=questions,
        max_capability_loss=max_capability_loss,
        max_kl=max_kl,
        min_effect=min_effect,
    )
    if axis_percentiles is not None:
        floors = tuple(numbers(axis_percentiles, "axis-percentiles"))
        settings = replace(settings, axis_percentiles=floors)
    mapped = engine.open(run)
    work = api.calibrate.prepare(
        mapped,
        settings,
        windows=None if windows is None else names(windows),
        dataset=dataset,
        personas=personas,
        population=population,
        corpus=corpus,
        judge=chosen,
        out=out_folder,
        seed=seed,
        restart=restart,
        anyway=anyway,
    )
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    result = found.calibration
    hand_over(results=found.records(), recommended=result.recommended, why=result.why)
    _print_calibration(result)
    out.print(f"cells in {found.cells}, figure in {found.figure}")
    if found.warning:
        err.print(f"[yellow]warning:[/] {found.warning}", soft_wrap=True)
    print_judging(found.judge.name, found.judge.stats)
    if found.plan_folder is not None:
        out.print(f"[bold]recommended:[/] {result.recommended} ({result.why}); plan in {found.plan_folder}")
    else:
        out.print(f"[bold]nothing is recommended:[/] {result.why}")
    if result.partial:
        err.print("[yellow]partly done:[/] labels are missing; run the same command again")
        raise typer.Exit(PARTLY)
    if found.plan_folder is not None:
        plan = found.plan_folder
        say_next(
            ("steer", run, "Who are you?", "--plan", plan),
            ("evaluate", "jailbreak", run, "--plan", plan),
            ("report", run),
        )
    else:
        say_next(
            ("calibrate", run, "--roles", 2 * roles, "--out", run / "calibration_larger"),
            ("report", run),
        )


def _print_calibration(result: Calibration) -> None:
    caveats = dict.fromkeys(result.jailbreak.caveats.values())
    table = grid(
        "plans, each less no plan; KL in nats a token; * on the Pareto front"
        + "".join(f"\n[yellow](harmful by the {caveat})[/]" for caveat in caveats),
        *("plan", "Assistant", "p", "harmful", "p ", "capability", "incoherent", "KL", "fired"),
        words=("plan",),
    )
    for cell in result.cells:
        table.add_row(
            cell.condition + (" *" if cell.condition in result.front else ""),
            f"{cell.assistant.estimate:+.3f}",
            f"{cell.assistant.p_value:.3f}",
            f"{cell.harmful.estimate:+.3f}",
            f"{cell.harmful.p_value:.3f}",
            f"{cell.capability.estimate:+.3f}",
            f"{cell.incoherent:+.3f}",
            f"{cell.kl.estimate:.3f}",
            f"{cell.firing_share:.0%}",
        )
    out.print(table)
