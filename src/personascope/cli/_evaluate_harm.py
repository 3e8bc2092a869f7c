"""``personascope evaluate harm``: whether a first reply far from the Assistant foretells harm in the next."""

from __future__ import annotations

from pathlib import Path

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out
from personascope.cli._estimate import print_estimate
from personascope.cli._groups import EngineOptions, JudgeOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    CONTROLS,
    CORPUS,
    DRY_RUN,
    EVALUATION,
    RESTART,
    RUN,
    SEED,
    PlanOnName,
    names,
)
from personascope.cli._tables import print_harm


@grouped
def harm(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    roles: int | None = typer.Option(
        None, min=1, help="Roles, spread over the axis; all of the corpus if not given (the paper's 275)."
    ),
    questions: int = typer.Option(10, min=1, help="First questions, the same for every role."),
    per_reply: int = typer.Option(1, min=1, help="Harmful questions asked after each first reply."),
    dataset: str | None = typer.Option(
        None,
        help="CSV, JSONL, Parquet or hub:owner/name of harmful questions; our mild ones if not given.",
    ),
    limit: int | None = typer.Option(None, min=1, help="Harmful questions at most."),
    no_role: bool = typer.Option(True, help="Also without a role, as a control."),
    plan: Path | None = typer.Option(None, help="Act with this plan."),
    plan_on: PlanOnName = typer.Option("both", help="Replies that the plan acts on."),
    n_random: int = typer.Option(50, min=0, help="Control directions of each kind; they cost no generation."),
    controls: str = CONTROLS,
    bins: int = typer.Option(8, min=1, help="Bins of the figure."),
    layer: int | None = typer.Option(
        None, min=0, help="Layer that is read; the map's middle layer if not given."
    ),
    first_tokens: int = typer.Option(128, min=1, help="Tokens of a first reply at most."),
    second_tokens: int = typer.Option(96, min=1, help="Tokens of a second reply at most."),
    corpus: Path | None = CORPUS,
    judge: JudgeOptions = JudgeOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Drift and harm: a first reply in a role, then a harmful question (section 4 of the paper)."""
    chosen = judge.choose()
    mapped = engine.open(run)
    work = api.harm.prepare(
        mapped,
        roles=roles,
        questions=questions,
        per_reply=per_reply,
        dataset=dataset,
        limit=limit,
        no_role=no_role,
        plan=plan,
        plan_on=plan_on,
        n_random=n_random,
        controls=names(controls),
        bins=bins,
        layer=layer,
        first_tokens=first_tokens,
        second_tokens=second_tokens,
        corpus=corpus,
        judge=chosen,
        out=out_folder,
        seed=seed,
        restart=restart,
    )
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    done = found.run
    if found.result is None:
        out.print(
            f"{done.trials} trials in {done.path}; nothing is labelled yet: give the same command a judge"
        )
    else:
        print_harm(found.result)
        hand_over(results=found.records())
        out.print(f"{done.trials} trials in {done.path}; results in {found.results}")
        out.print(f"figure in {found.figure}")
    if found.judge is not None and done.judge is not None:
        print_judging(found.judge.name, done.judge)
    if done.empty:
        err.print(f"[yellow]left out:[/] {done.empty} trials whose first reply says nothing")
    if found.partial:
        err.print(
            f"[yellow]partly done:[/] {done.unscored} replies have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)
