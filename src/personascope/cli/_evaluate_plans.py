"""``personascope evaluate susceptibility | jailbreak | pretrained | coherence``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out
from personascope.cli._judging import choose_judge, print_judging
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
    LAYER,
    MAX_COST,
    MODEL,
    PERSONAS,
    PLANS,
    RANDOM,
    RESTART,
    RUN,
    SEED,
    STRENGTHS,
    WORKERS,
    DtypeName,
    EngineName,
    numbers,
)
from personascope.cli._run import open_run
from personascope.cli._tables import print_table

if TYPE_CHECKING:
    from personascope.api import Comparison, Evaluation


def susceptibility(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = RANDOM,
    layer: int = LAYER,
    roles: int = typer.Option(50, min=1, help="Roles, nearest the Assistant first."),
    prompts: int = typer.Option(4, min=1, help="System prompts of each role."),
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
    """Role susceptibility: who the model says it is when it plays a role (section 3.2 of the paper)."""
    compare = _comparison(strengths, plans, draws, layer)
    chosen = choose_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    mapped = open_run(
        run,
        model=model,
        engine=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    _print(
        api.susceptibility(
            mapped,
            compare,
            roles=roles,
            prompts=prompts,
            corpus=corpus,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        )
    )


def jailbreak(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    dataset: str = typer.Option(
        None, help="CSV, JSONL, Parquet or hub:owner/name set; the built-in mild one if not given."
    ),
    personas: str = PERSONAS,
    limit: int = typer.Option(None, min=1, help="Pairs of persona and question at most."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = RANDOM,
    layer: int = LAYER,
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
    """Persona jailbreaks: how often a persona gets what it should not."""
    compare = _comparison(strengths, plans, draws, layer)
    chosen = choose_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    mapped = open_run(
        run,
        model=model,
        engine=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    _print(
        api.jailbreak(
            mapped,
            compare,
            dataset=dataset,
            personas=personas,
            limit=limit,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        )
    )


def pretrained(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    base: str = typer.Option(
        None, help="Base model to steer with this map's axis; the map's own model if not given."
    ),
    samples: int = typer.Option(400, min=1, help="Completions of each opening."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = RANDOM,
    layer: int = LAYER,
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
    """Pre-trained models: what a base model says of itself, steered with an axis (section 3.2)."""
    compare = _comparison(strengths, plans, draws, layer)
    chosen = choose_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    mapped = open_run(
        run,
        model=model,
        engine=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    _print(
        api.pretrained(
            mapped,
            compare,
            base=base,
            samples=samples,
            judge=chosen,
            out=out_folder,
            seed=seed,
            restart=restart,
        )
    )


def coherence(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    chats: str = typer.Option(
        None, help="Chats whose first questions are asked; the built-in ones if not given."
    ),
    limit: int = typer.Option(1000, min=1, help="Chats at most."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = RANDOM,
    layer: int = LAYER,
    model: str = MODEL,
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    seed: int = SEED,
    restart: bool = RESTART,
) -> None:
    """Coherence of answers to ordinary questions: repetition, script and language, perplexity."""
    compare = _comparison(strengths, plans, draws, layer)
    mapped = open_run(
        run,
        model=model,
        engine=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    _print(
        api.coherence(mapped, compare, chats=chats, limit=limit, out=out_folder, seed=seed, restart=restart)
    )


def _comparison(strengths: str, plans: list[Path] | None, draws: int, layer: int | None) -> Comparison:
    steps = tuple(numbers(strengths, "strengths"))
    return api.Comparison(steps, api.load_plans(plans or ()), draws, layer)


def _print(found: Evaluation) -> None:
    run = found.run
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
