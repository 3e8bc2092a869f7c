"""``personascope evaluate susceptibility | jailbreak | pretrained | coherence``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import engines, report
from personascope.cli._conditions import Comparison, evaluation_folder
from personascope.cli._console import PARTLY, err, out, say, this_command
from personascope.cli._engine import open_engine, open_judge, open_map
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
)
from personascope.cli._tables import print_table
from personascope.corpus import load_corpus
from personascope.corpus.datasets import load_chats, load_jailbreak_set
from personascope.directions import nearest_roles, plan_model
from personascope.evals import (
    RESULTS,
    evaluation_table,
    jailbreak_trials,
    opening_trials,
    ordinary_trials,
    run_evaluation,
    susceptibility_trials,
)
from personascope.interventions import PlanModel
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.evals import Condition, Trials
    from personascope.judge import Judge


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
    wanted = Comparison.read(strengths, plans, draws, layer, seed)
    scorer = open_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    persona_map = open_map(run)
    trials = susceptibility_trials(load_corpus(corpus), nearest_roles(persona_map, roles), prompts=prompts)
    _, engine = open_engine(
        persona_map,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
        layer=layer,
    )
    conditions = wanted.conditions(persona_map, engine, run)
    _evaluate(engine, trials, conditions, run, out_folder, scorer, seed, restart)


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
    wanted = Comparison.read(strengths, plans, draws, layer, seed)
    scorer = open_judge(
        judge,
        fallback_judge,
        headers=judge_header,
        fallback_headers=fallback_header,
        price=judge_price,
        fallback_price=fallback_price,
        max_cost=max_cost,
    )
    chosen = load_jailbreak_set(dataset or None, personas=personas, limit=limit)
    trials = jailbreak_trials(chosen)
    persona_map, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
        layer=layer,
    )
    conditions = wanted.conditions(persona_map, engine, run)
    _evaluate(engine, trials, conditions, run, out_folder, scorer, seed, restart)


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
    wanted = Comparison.read(strengths, plans, draws, layer, seed)
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
        workers=workers,
        address=address,
        layer=layer,
    )
    target = plan_model(persona_map)
    if base is not None:
        if isinstance(engine, engines.RayEngine):
            # Its workers' memory is the next ones'.
            engine.close()
        say(f"loading {base}")
        engine = engines.load_engine(
            base, engine=engine_kind, dtype=dtype, max_batch=max_batch, workers=workers, address=address
        )
        if engine.chat is None:
            # The unit of strengths is measured on chats, which a base model needs as a transcript.
            engine = engine.with_transcript()
        info = engine.info
        target = PlanModel(info.model_id, info.model_revision, info.n_layers, info.d_model)
    trials = opening_trials(engine, samples=samples)
    conditions = wanted.conditions(persona_map, engine, run, target=target)
    _evaluate(engine, trials, conditions, run, out_folder, scorer, seed, restart)


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
    wanted = Comparison.read(strengths, plans, draws, layer, seed)
    trials = ordinary_trials(load_chats(chats, limit=limit).chats)
    persona_map, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
        layer=layer,
    )
    conditions = wanted.conditions(persona_map, engine, run)
    _evaluate(engine, trials, conditions, run, out_folder, None, seed, restart)


def _evaluate(
    engine: LocalEngine,
    trials: Trials,
    conditions: Sequence[Condition],
    run: Path,
    out_folder: Path | None,
    judge: Judge | None,
    seed: int,
    restart: bool,
) -> None:
    for problem in trials.problems:
        err.print(f"[yellow]left out:[/] {problem}", soft_wrap=True)
    folder = evaluation_folder(run, out_folder, trials.name)
    done = run_evaluation(
        engine,
        trials,
        conditions,
        out=folder,
        judge=judge,
        seed=seed,
        restart=restart,
        command=this_command(),
    )
    table = evaluation_table(folder, seed=seed)
    write_json(folder / RESULTS, table.as_dict())
    print_table(table)
    out.print(f"{done.responses} responses in {folder}; results in {folder / RESULTS}")
    if judge is not None and done.judge is not None:
        print_judging(judge.name, done.judge)
    if trials.rubrics and done.unscored == done.responses:
        out.print("nothing is labelled yet: give the same command a judge to label them and draw the figure")
    else:
        title = f"{trials.name}: {engine.info.model_id}"
        out.print(
            f"figure in {report.save_evaluation_figure(folder / f'{trials.name}.png', table, title=title)}"
        )
    if done.partial and judge is not None:
        err.print(
            f"[yellow]partly done:[/] {done.unscored} responses have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)
