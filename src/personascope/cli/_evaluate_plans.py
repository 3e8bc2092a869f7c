"""``personascope evaluate susceptibility | jailbreak | pretrained | coherence``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out, say_next
from personascope.cli._estimate import print_estimate
from personascope.cli._groups import ComparisonOptions, EngineOptions, JudgeOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    CORPUS,
    DRY_RUN,
    EVALUATION,
    PERSONAS,
    RESTART,
    RUN,
    SEED,
)
from personascope.cli._tables import print_table

if TYPE_CHECKING:
    from personascope.api import Evaluation, Prepared


@grouped
def susceptibility(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    comparison: ComparisonOptions = ComparisonOptions(),
    roles: int = typer.Option(50, min=1, help="Roles, nearest the Assistant first."),
    prompts: int = typer.Option(4, min=1, help="System prompts of each role."),
    corpus: Path | None = CORPUS,
    judge: JudgeOptions = JudgeOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Role susceptibility: who the model says it is when it plays a role (section 3.2 of the paper)."""
    compare = comparison.read()
    chosen = judge.choose()
    mapped = engine.open(run)
    _print(
        api.susceptibility.prepare(
            mapped,
            compare,
            roles=roles,
            prompts=prompts,
            corpus=corpus,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        ),
        run,
        dry_run=dry_run,
    )


@grouped
def jailbreak(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    dataset: str | None = typer.Option(
        None, help="CSV, JSONL, Parquet or hub:owner/name set; the built-in mild one if not given."
    ),
    personas: str | None = PERSONAS,
    limit: int | None = typer.Option(None, min=1, help="Pairs of persona and question at most."),
    comparison: ComparisonOptions = ComparisonOptions(),
    judge: JudgeOptions = JudgeOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Persona jailbreaks: how often a persona gets what it should not."""
    compare = comparison.read()
    chosen = judge.choose()
    mapped = engine.open(run)
    _print(
        api.jailbreak.prepare(
            mapped,
            compare,
            dataset=dataset,
            personas=personas,
            limit=limit,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        ),
        run,
        dry_run=dry_run,
    )


@grouped
def pretrained(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    base: str | None = typer.Option(
        None, help="Base model to steer with this map's axis; the map's own model if not given."
    ),
    samples: int = typer.Option(400, min=1, help="Completions of each opening."),
    comparison: ComparisonOptions = ComparisonOptions(),
    judge: JudgeOptions = JudgeOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Pre-trained models: what a base model says of itself, steered with an axis (section 3.2)."""
    compare = comparison.read()
    chosen = judge.choose()
    mapped = engine.open(run)
    _print(
        api.pretrained.prepare(
            mapped,
            compare,
            base=base,
            samples=samples,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        ),
        run,
        dry_run=dry_run,
    )


@grouped
def coherence(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    chats: str | None = typer.Option(
        None, help="Chats whose first questions are asked; the built-in ones if not given."
    ),
    limit: int = typer.Option(1000, min=1, help="Chats at most."),
    comparison: ComparisonOptions = ComparisonOptions(),
    engine: EngineOptions = EngineOptions(),
    seed: int = SEED,
    restart: bool = RESTART,
    dry_run: bool = DRY_RUN,
) -> None:
    """Coherence of answers to ordinary questions: repetition, script and language, perplexity."""
    compare = comparison.read()
    mapped = engine.open(run)
    _print(
        api.coherence.prepare(
            mapped, compare, chats=chats, limit=limit, out=out_folder, seed=seed, restart=restart
        ),
        run,
        dry_run=dry_run,
    )


def _print(work: Prepared[Evaluation], folder: Path, *, dry_run: bool) -> None:
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    run = found.run
    hand_over(results=found.records(), notes=list(found.notes()))
    print_table(found.table)
    out.print(f"{run.responses} responses in {run.path}; results in {found.results}")
    if found.judge is not None and run.judge is not None:
        print_judging(found.judge.name, run.judge)
    if found.figure is None:
        out.print("nothing is labelled yet: give the same command a judge to label them and draw the figure")
    else:
        out.print(f"figure in {found.figure}")
    if found.partial:
        err.print(
            f"[yellow]partly done:[/] {run.unscored} responses have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)
    say_next(("report", folder))
