"""``personascope evaluate``: what a plan does, with its controls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table as Grid

from personascope.calibration import norms_for, random_control
from personascope.cli._bar import Bar
from personascope.cli._console import PARTLY, err, out, this_command
from personascope.cli._engine import (
    ADDRESS,
    DTYPE,
    MODEL,
    RESTART,
    SEED,
    WORKERS,
    numbers,
    open_engine,
    run_folder,
)
from personascope.corpus import load_corpus
from personascope.corpus.evals import load_chats, load_jailbreak_set
from personascope.engines import ENGINES, LocalEngine, RayEngine, load_engine
from personascope.evals import (
    PLAIN,
    RESULTS,
    Condition,
    EvalProgress,
    Table,
    Trials,
    evaluation_table,
    jailbreak_trials,
    nearest_roles,
    opening_trials,
    ordinary_trials,
    paired_difference,
    plan_model,
    run_evaluation,
    steering_conditions,
    susceptibility_trials,
)
from personascope.interventions import Plan, PlanModel
from personascope.judge import parse_judge
from personascope.report import save_evaluation_figure
from personascope.space import PersonaMap
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.evals.harness import Capability, CapabilityTask

app = typer.Typer(help="Measure what a plan does, with its controls.", no_args_is_help=True)

RUN = typer.Argument(..., help="Run folder of the model's map.")
OUT = typer.Option(None, "--out", help="Folder of the evaluation; <run>/evals/<name> if not given.")
STRENGTHS = typer.Option("-0.4,-0.2,-0.1,0,0.1,0.2,0.4", help="Steering strengths, with commas.")
PLANS = typer.Option(None, "--plan", help="Evaluate this plan instead of steering; may be given again.")
DRAWS = typer.Option(3, help="Random directions beside the axis, of the same length.")
LAYER = typer.Option(None, help="Layer that is steered; the map's middle layer if not given.")
JUDGE = typer.Option("rules", help="rules (offline), openai:MODEL@BASE_URL, local:MODEL or none.")
ENGINE = typer.Option("auto", "--engine", help=f"{', '.join(ENGINES)}; auto is vllm where it is installed.")
BATCH = typer.Option(128, help="Responses that are generated side by side.")


def register(main: typer.Typer) -> None:
    """Add the commands to the application."""
    main.add_typer(app, name="evaluate")


@app.command("susceptibility")
def susceptibility(
    run: Path = RUN,
    out_folder: Path = OUT,
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = DRAWS,
    layer: int = LAYER,
    roles: int = typer.Option(50, help="Roles, nearest the Assistant first."),
    prompts: int = typer.Option(4, help="System prompts of each role."),
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
    """Role susceptibility: who the model says it is when it plays a role (section 3.2 of the paper)."""
    found, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    trials = susceptibility_trials(load_corpus(corpus), nearest_roles(found, roles), prompts=prompts)
    conditions = _conditions(found, engine, run, strengths, plans, draws, layer, seed)
    _evaluate(engine, trials, conditions, run, out_folder, judge, seed, restart)


@app.command("jailbreak")
def jailbreak(
    run: Path = RUN,
    out_folder: Path = OUT,
    dataset: str = typer.Option(
        None, help="CSV, JSONL, Parquet or hub:owner/name set; the built-in mild one if not given."
    ),
    limit: int = typer.Option(None, help="Pairs of persona and question at most."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = DRAWS,
    layer: int = LAYER,
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
    """Persona jailbreaks: how often a persona gets what it should not."""
    found, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    chosen = load_jailbreak_set(dataset, limit=limit) if dataset else load_jailbreak_set(limit=limit)
    trials = jailbreak_trials(chosen)
    conditions = _conditions(found, engine, run, strengths, plans, draws, layer, seed)
    _evaluate(engine, trials, conditions, run, out_folder, judge, seed, restart)


@app.command("pretrained")
def pretrained(
    run: Path = RUN,
    out_folder: Path = OUT,
    base: str = typer.Option(
        None, help="Base model to steer with this map's axis; the map's own model if not given."
    ),
    samples: int = typer.Option(400, help="Completions of each opening."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = DRAWS,
    layer: int = LAYER,
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
    """Pre-trained models: what a base model says of itself, steered with an axis (section 3.2)."""
    found, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    target = plan_model(found)
    if base is not None:
        if isinstance(engine, RayEngine):
            # Its workers' memory is the next ones'.
            engine.close()
        engine = load_engine(
            base, engine=engine_kind, dtype=dtype, max_batch=max_batch, workers=workers, address=address
        )
        if engine.chat is None:
            # The unit of strengths is measured on chats, which a base model needs as a transcript.
            engine = engine.with_transcript()
        info = engine.info
        target = PlanModel(info.model_id, info.model_revision, info.n_layers, info.d_model)
    trials = opening_trials(engine, samples=samples)
    conditions = _conditions(found, engine, run, strengths, plans, draws, layer, seed, target=target)
    _evaluate(engine, trials, conditions, run, out_folder, judge, seed, restart)


@app.command("coherence")
def coherence(
    run: Path = RUN,
    out_folder: Path = OUT,
    chats: str = typer.Option(
        None, help="Chats whose first questions are asked; the built-in ones if not given."
    ),
    limit: int = typer.Option(1000, help="Chats at most."),
    strengths: str = STRENGTHS,
    plans: list[Path] = PLANS,
    draws: int = DRAWS,
    layer: int = LAYER,
    model: str = MODEL,
    engine_kind: str = ENGINE,
    dtype: str = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
    seed: int = SEED,
    restart: bool = RESTART,
) -> None:
    """Coherence of answers to ordinary questions: repetition, script and language, perplexity."""
    found, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    trials = ordinary_trials(load_chats(chats, limit=limit).chats)
    conditions = _conditions(found, engine, run, strengths, plans, draws, layer, seed)
    _evaluate(engine, trials, conditions, run, out_folder, "none", seed, restart)


@app.command("capability")
def capability(
    run: Path = RUN,
    out_folder: Path = OUT,
    tasks: str = typer.Option(
        None, help="Tasks of lm-evaluation-harness, with commas; ifeval,mmlu_pro,gsm8k,eq_bench if not given."
    ),
    plans: list[Path] = PLANS,
    draws: int = typer.Option(1, help="Random directions beside every plan."),
    limit: int = typer.Option(None, help="Examples of each task at most."),
    model: str = MODEL,
    engine_kind: str = ENGINE,
    dtype: str = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
) -> None:
    """Capability: tasks of lm-evaluation-harness without a plan, with plans, and with their controls."""
    from personascope.evals.harness import DEFAULT_TASKS
    from personascope.evals.harness import capability as run_tasks

    _, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    wanted = DEFAULT_TASKS if tasks is None else tuple(part.strip() for part in tasks.split(","))
    chosen = [PLAIN, *_with_controls(plans or (), draws, run, seed=0)]
    found: dict[str, Capability] = {c.name: run_tasks(engine, c.plan, wanted, limit=limit) for c in chosen}
    grid = Grid("condition", "task", "metric", "value", "documents", "less no plan", "95%", "p", "fired")
    for name, results in found.items():
        for task in results.tasks:
            metric = task.headline
            grid.add_row(
                name,
                task.name,
                f"{metric.name} ({metric.filter})",
                f"{metric.value:.4f}",
                str(task.documents),
                *_against(task, found["plain"]),
                _fired(results),
            )
    out.print(grid)
    folder = _folder(run, out_folder, "capability")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, {name: results.record() for name, results in found.items()})
    out.print(f"results in {folder / RESULTS}")
    failed = {task: why for results in found.values() for task, why in results.failed.items()}
    for task, why in failed.items():
        err.print(f"[yellow]not run:[/] {task} {why}", soft_wrap=True)
    if failed:
        raise typer.Exit(PARTLY)


def _fired(results: Capability) -> str:
    """Return the share of generated tokens on which caps fired; "" where none is known."""
    share = results.firing.get("firing_share")
    return "" if share is None else f"{share:.0%}"


def _against(task: CapabilityTask, plain: Capability) -> tuple[str, str, str]:
    """Return a task's difference from no plan on the same documents, its interval, and the p-value."""
    other = next((t for t in plain.tasks if t.name == task.name), None)
    if other is None or other is task or not task.headline.per_document:
        return "", "", ""
    common = sorted(task.headline.per_document.keys() & other.headline.per_document.keys())
    found = paired_difference(
        [task.headline.per_document[key] for key in common],
        [other.headline.per_document[key] for key in common],
    )
    return f"{found.estimate:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.p_value:.4f}"


def _conditions(
    found: PersonaMap,
    engine: LocalEngine,
    run: Path,
    strengths: str,
    plans: Sequence[Path] | None,
    draws: int,
    layer: int | None,
    seed: int,
    *,
    target: PlanModel | None = None,
) -> tuple[Condition, ...]:
    if not plans:
        # The unit of a strength is of the model that is steered, which need not be the map's.
        where = run_folder(run) if target is None or target == plan_model(found) else run_folder(run) / "base"
        where.mkdir(exist_ok=True)
        measured = norms_for(engine, where)
        return steering_conditions(
            found,
            numbers(strengths, "strengths"),
            measured.mean,
            layer=layer,
            draws=draws,
            seed=seed,
            model=target,
        )
    return (PLAIN, *_with_controls(plans, draws, run, seed))


def _with_controls(plans: Sequence[Path], draws: int, run: Path, seed: int) -> list[Condition]:
    """Return the user's plans, each followed by itself on random directions."""
    conditions: list[Condition] = []
    for path in plans:
        plan = Plan.load(path)
        name = plan.name or path.name
        conditions.append(Condition(name, "plan", plan))
        for draw in range(draws):
            control = random_control(run_folder(run), plan, draw, seed=seed)
            conditions.append(Condition(f"random {draw} of {name}", "random", control, draw=draw, of=(name,)))
    return conditions


def _folder(run: Path, out_folder: Path | None, name: str) -> Path:
    return out_folder or run_folder(run) / "evals" / name


def _evaluate(
    engine: LocalEngine,
    trials: Trials,
    conditions: Sequence[Condition],
    run: Path,
    out_folder: Path | None,
    judge: str,
    seed: int,
    restart: bool,
) -> None:
    for problem in trials.problems:
        err.print(f"[yellow]left out:[/] {problem}", soft_wrap=True)
    folder = _folder(run, out_folder, trials.name)
    with Bar() as bar:
        done = run_evaluation(
            engine,
            trials,
            conditions,
            out=folder,
            judge=parse_judge(judge),
            seed=seed,
            progress=partial(show_progress, bar),
            restart=restart,
            command=this_command(),
        )
    table = evaluation_table(folder, seed=seed)
    write_json(folder / RESULTS, table.as_dict())
    print_table(table)
    out.print(f"{done.responses} responses in {folder}; results in {folder / RESULTS}")
    if trials.rubrics and done.unscored == done.responses:
        out.print("nothing is labelled yet: give the same command a judge to label them and draw the figure")
    else:
        title = f"{trials.name}: {engine.info.model_id}"
        out.print(f"figure in {save_evaluation_figure(folder / f'{trials.name}.png', table, title=title)}")
    if done.partial and judge != "none":
        err.print(
            f"[yellow]partly done:[/] {done.unscored} responses have no label; run the same command again"
        )
        raise typer.Exit(PARTLY)


def print_table(table: Table) -> None:
    """Print a table: shares with intervals, against no plan and against random directions."""
    grid = Grid(title=table.name)
    for name in ("condition", "measure", "share", "95%", "n", "less no plan", "p", "less random", "95% "):
        grid.add_column(name, justify="left" if name in ("condition", "measure") else "right")
    health = {h.condition: h for h in table.health}
    last = ""
    for result in table.results:
        if result.condition != last:
            h = health[result.condition]
            fired = "" if h.firing_share is None else f", caps fired on {h.firing_share:.0%}"
            perplexity = "-" if h.perplexity is None else f"{h.perplexity:.1f}"
            grid.add_section()
            grid.add_row(f"[bold]{result.condition}[/]", f"[dim]perplexity {perplexity}{fired}[/]")
        last = result.condition
        share, plain, random = result.share, result.against_plain, result.against_random
        grid.add_row(
            "",
            result.measure,
            f"{share.estimate:.3f}",
            f"{share.low:.3f} to {share.high:.3f}",
            str(share.n) + (f" ({result.unscored} unscored)" if result.unscored else ""),
            "" if plain is None else f"{plain.estimate:+.3f}",
            "" if plain is None else f"{plain.p_value:.4f}",
            "" if random is None else f"{random.difference.estimate:+.3f}",
            "" if random is None else f"{random.difference.low:+.3f} to {random.difference.high:+.3f}",
        )
    out.print(grid)
    for note in table.notes:
        out.print(note)


def show_progress(bar: Bar, step: EvalProgress) -> None:
    """Show where an evaluation stands."""
    bar.show(step.phase, step.done, step.total, step.tokens, step.condition)
