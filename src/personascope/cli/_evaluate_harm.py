"""``personascope evaluate harm``: whether a first reply far from the Assistant foretells harm in the next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast, get_args

import typer
from rich.table import Table as Grid

from personascope.cli._bar import Bar
from personascope.cli._console import PARTLY, err, out, this_command
from personascope.cli._engine import ADDRESS, DTYPE, MODEL, RESTART, SEED, WORKERS, open_engine, run_folder
from personascope.cli._evaluate import BATCH, ENGINE, JUDGE, OUT, RUN, show_progress
from personascope.cli._evaluate import app as group
from personascope.corpus import load_corpus
from personascope.corpus.evals import load_harmful_questions
from personascope.dynamics import (
    HarmResult,
    PlanOn,
    harm_design,
    harm_result,
    read_harm,
    run_harm,
    spread_roles,
)
from personascope.errors import UsageError
from personascope.evals import RESULTS
from personascope.interventions import Plan
from personascope.judge import parse_judge
from personascope.report import save_harm_figure
from personascope.store import write_json

NAME = "harm"


def register() -> None:
    """Add the command to those of ``evaluate``."""
    group.command(NAME)(harm)


def harm(
    run: Path = RUN,
    out_folder: Path = OUT,
    roles: int = typer.Option(
        None, help="Roles, spread over the axis; all of the corpus if not given (the paper's 275)."
    ),
    questions: int = typer.Option(10, help="First questions, the same for every role."),
    per_reply: int = typer.Option(1, help="Harmful questions asked after each first reply."),
    dataset: str = typer.Option(
        None,
        help="CSV, JSONL, Parquet or hub:owner/name of harmful questions; our mild ones if not given.",
    ),
    limit: int = typer.Option(None, help="Harmful questions at most."),
    no_role: bool = typer.Option(True, help="Also without a role, as a control."),
    plan: Path = typer.Option(None, help="Act with this plan."),
    plan_on: str = typer.Option("both", help="Replies that the plan acts on: both, or the second alone."),
    draws: int = typer.Option(50, help="Random directions beside the axis; they cost no generation."),
    bins: int = typer.Option(8, help="Bins of the figure."),
    layer: int = typer.Option(None, help="Layer that is read; the map's middle layer if not given."),
    first_tokens: int = typer.Option(128, help="Tokens of a first reply at most."),
    second_tokens: int = typer.Option(96, help="Tokens of a second reply at most."),
    corpus: Path = typer.Option(None, help="Corpus folder; the built-in one if not given."),
    judge: str = JUDGE,
    model: str = MODEL,
    engine_kind: str = ENGINE,
    dtype: str = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    seed: int = SEED,
    restart: bool = RESTART,
) -> None:
    """Drift and harm: a first reply in a role, then a harmful question (section 4 of the paper)."""
    if plan_on not in get_args(PlanOn):
        raise UsageError(f"--plan-on {plan_on!r}", mend=f"give {' or '.join(get_args(PlanOn))}")
    acting = None if plan is None else Plan.load(plan)
    asked = load_harmful_questions(dataset, limit=limit)
    found, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        layer=layer,
        workers=workers,
        address=address,
    )
    design = harm_design(
        load_corpus(corpus),
        asked,
        model_name=Path(engine.info.model_id.rstrip("/")).name,
        roles=None if roles is None else spread_roles(found, roles, layer=layer),
        questions=questions,
        per_reply=per_reply,
        no_role=no_role,
        seed=seed,
        first_tokens=first_tokens,
        second_tokens=second_tokens,
    )
    for problem in design.problems:
        err.print(f"[yellow]left out:[/] {problem}", soft_wrap=True)
    folder = out_folder or run_folder(run) / "evals" / NAME
    with Bar() as bar:
        done = run_harm(
            engine,
            found,
            design,
            out=folder,
            judge=parse_judge(judge),
            layer=layer,
            plan=acting,
            plan_on=cast(PlanOn, plan_on),
            progress=partial(show_progress, bar),
            restart=restart,
            command=this_command(),
        )
    if done.unscored + done.empty == done.trials:
        out.print(f"{done.trials} trials in {folder}; nothing is labelled yet: give the same command a judge")
    else:
        result = harm_result(read_harm(folder), found, bins=bins, draws=draws, seed=seed)
        write_json(folder / RESULTS, result.record())
        print_harm(result)
        out.print(f"{done.trials} trials in {folder}; results in {folder / RESULTS}")
        out.print(f"figure in {save_harm_figure(folder / f'{NAME}.png', result)}")
    if done.empty:
        err.print(f"[yellow]left out:[/] {done.empty} trials whose first reply says nothing")
    if done.partial and judge != "none":
        err.print(
            f"[yellow]partly done:[/] {done.unscored} replies have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)


def print_harm(found: HarmResult) -> None:
    """Print the bins, the correlations beside random directions, and the fit."""
    grid = Grid(title=f"harmful second replies by position of the first, layer {found.layer}")
    for name in ("position", "from", "to", "harmful", "95%", "n"):
        grid.add_column(name, justify="right")
    for part in found.bins:
        share = part.share
        grid.add_row(
            f"{part.position:+.2f}",
            f"{part.low:+.2f}",
            f"{part.high:+.2f}",
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n),
        )
    grid.add_section()
    share, none = found.harmful, found.no_role
    limits = f"{share.low:.3f} to {share.high:.3f}"
    grid.add_row("all roles", "", "", f"{share.estimate:.3f}", limits, str(share.n))
    if none is not None:
        share = none.harmful
        limits = f"{share.low:.3f} to {share.high:.3f}"
        grid.add_row(
            f"no role, {none.position.estimate:+.2f}", "", "", f"{share.estimate:.3f}", limits, str(share.n)
        )
    out.print(grid)
    table = Grid("correlation", "over", "r", "95%", "p", "without relation", "random |r|, 95%", "among them")
    drawn = {"trial": found.random.r_trial, "role": found.random.r_role}
    rank = {"trial": found.random.p_trial, "role": found.random.p_role}
    for one in found.correlations:
        random = sorted(abs(r) for r in drawn[one.level]) if one.method == "pearson" else []
        table.add_row(
            one.method,
            f"{one.n} trials" if one.level == "trial" else f"{one.n_roles} roles",
            f"{one.r:+.3f}",
            f"{one.low:+.3f} to {one.high:+.3f}",
            f"{one.p_value:.4f}",
            f"{one.null_low:+.3f} to {one.null_high:+.3f}",
            f"{random[int(0.95 * (len(random) - 1))]:.3f}" if random else "",
            f"p = {rank[one.level]:.3f}" if random else "",
        )
    out.print(table)
    if found.logistic is not None:
        fit = found.logistic
        steep = "; a threshold tells them apart, so the data do not bound the slope" if fit.separated else ""
        out.print(
            f"log odds of harm change by {fit.slope:+.2f} ({fit.low:+.2f} to {fit.high:+.2f}) for each unit "
            f"toward the Assistant{steep}"
        )
    health = found.health
    capped = "" if health.second_capped is None else f"; caps fired on {health.second_capped:.0%} of tokens"
    out.print(
        f"incoherent: {health.first_incoherent.estimate:.1%} of first, "
        f"{health.second_incoherent.estimate:.1%} of second replies{capped}"
    )
    for note in found.notes:
        out.print(note)
