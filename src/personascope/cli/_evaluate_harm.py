"""``personascope evaluate harm``: whether a first reply far from the Assistant foretells harm in the next."""

from __future__ import annotations

from pathlib import Path

import typer

from personascope import report
from personascope.cli._console import PARTLY, err, out, this_command
from personascope.cli._engine import open_engine, open_judge, run_folder
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    ADDRESS,
    BATCH,
    CORPUS,
    DTYPE,
    ENGINE,
    EVALUATION,
    FALLBACK,
    FALLBACK_HEADER,
    FALLBACK_PRICE,
    JUDGE,
    JUDGE_HEADER,
    JUDGE_PRICE,
    MAX_COST,
    MODEL,
    RESTART,
    RUN,
    SEED,
    WORKERS,
    DtypeName,
    EngineName,
)
from personascope.cli._tables import print_harm
from personascope.corpus import load_corpus
from personascope.corpus.datasets import load_harmful_questions
from personascope.directions import spread_roles
from personascope.dynamics.harm import PlanOn, harm_design, harm_result, read_harm, run_harm
from personascope.evals import RESULTS
from personascope.interventions import Plan
from personascope.store import write_json

NAME = "harm"


def harm(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    roles: int = typer.Option(
        None, min=1, help="Roles, spread over the axis; all of the corpus if not given (the paper's 275)."
    ),
    questions: int = typer.Option(10, min=1, help="First questions, the same for every role."),
    per_reply: int = typer.Option(1, min=1, help="Harmful questions asked after each first reply."),
    dataset: str = typer.Option(
        None,
        help="CSV, JSONL, Parquet or hub:owner/name of harmful questions; our mild ones if not given.",
    ),
    limit: int = typer.Option(None, min=1, help="Harmful questions at most."),
    no_role: bool = typer.Option(True, help="Also without a role, as a control."),
    plan: Path = typer.Option(None, help="Act with this plan."),
    plan_on: PlanOn = typer.Option("both", help="Replies that the plan acts on."),
    draws: int = typer.Option(50, min=0, help="Random directions beside the axis; they cost no generation."),
    bins: int = typer.Option(8, min=1, help="Bins of the figure."),
    layer: int = typer.Option(None, min=0, help="Layer that is read; the map's middle layer if not given."),
    first_tokens: int = typer.Option(128, min=1, help="Tokens of a first reply at most."),
    second_tokens: int = typer.Option(96, min=1, help="Tokens of a second reply at most."),
    corpus: Path = CORPUS,
    judge: str = JUDGE,
    fallback_judge: str = FALLBACK,
    judge_header: list[str] = JUDGE_HEADER,
    fallback_header: list[str] = FALLBACK_HEADER,
    judge_price: str = JUDGE_PRICE,
    fallback_price: str = FALLBACK_PRICE,
    max_cost: float = MAX_COST,
    model: str = MODEL,
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    seed: int = SEED,
    restart: bool = RESTART,
) -> None:
    """Drift and harm: a first reply in a role, then a harmful question (section 4 of the paper)."""
    acting = None if plan is None else Plan.load(plan)
    asked, texts = load_harmful_questions(dataset, limit=limit), load_corpus(corpus)
    scorer = open_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    persona_map, engine = open_engine(
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
        texts,
        asked,
        model_name=Path(engine.info.model_id.rstrip("/")).name,
        roles=None if roles is None else spread_roles(persona_map, roles, layer=layer),
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
    done = run_harm(
        engine,
        persona_map,
        design,
        out=folder,
        judge=scorer,
        layer=layer,
        plan=acting,
        plan_on=plan_on,
        restart=restart,
        command=this_command(),
    )
    if done.unscored + done.empty == done.trials:
        out.print(f"{done.trials} trials in {folder}; nothing is labelled yet: give the same command a judge")
    else:
        result = harm_result(read_harm(folder), persona_map, bins=bins, draws=draws, seed=seed)
        write_json(folder / RESULTS, result.record())
        print_harm(result)
        out.print(f"{done.trials} trials in {folder}; results in {folder / RESULTS}")
        out.print(f"figure in {report.save_harm_figure(folder / f'{NAME}.png', result)}")
    if scorer is not None and done.judge is not None:
        print_judging(scorer.name, done.judge)
    if done.empty:
        err.print(f"[yellow]left out:[/] {done.empty} trials whose first reply says nothing")
    if done.partial and scorer is not None:
        err.print(
            f"[yellow]partly done:[/] {done.unscored} replies have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)
