"""``personascope evaluate capability``: tasks of lm-evaluation-harness under plans and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table as Grid

from personascope.cli._conditions import Comparison, evaluation_folder
from personascope.cli._console import PARTLY, err, out
from personascope.cli._engine import open_engine
from personascope.cli._options import (
    ADDRESS,
    BATCH,
    DTYPE,
    ENGINE,
    EVALUATION,
    MODEL,
    PLANS,
    RUN,
    WORKERS,
    DtypeName,
    EngineName,
    names,
)
from personascope.evals import PLAIN, RESULTS
from personascope.stats import paired_difference
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.evals.harness import Capability, CapabilityTask


def capability(
    run: Path = RUN,
    out_folder: Path = EVALUATION,
    tasks: str = typer.Option(
        None, help="Tasks of lm-evaluation-harness, with commas; ifeval,mmlu_pro,gsm8k,eq_bench if not given."
    ),
    plans: list[Path] = PLANS,
    draws: int = typer.Option(1, min=0, help="Random directions beside every plan."),
    limit: int = typer.Option(None, min=1, help="Examples of each task at most."),
    model: str = MODEL,
    engine_kind: EngineName = ENGINE,
    dtype: DtypeName = DTYPE,
    max_batch: int = BATCH,
    workers: int = WORKERS,
    address: str = ADDRESS,
) -> None:
    """Capability: tasks of lm-evaluation-harness without a plan, with plans, and with their controls."""
    from personascope.evals.harness import DEFAULT_TASKS
    from personascope.evals.harness import capability as run_tasks

    wanted = Comparison.read("", plans, draws)
    _, engine = open_engine(
        run,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    chosen = [PLAIN, *wanted.with_controls(run)]
    todo = DEFAULT_TASKS if tasks is None else names(tasks)
    found: dict[str, Capability] = {c.name: run_tasks(engine, c.plan, todo, limit=limit) for c in chosen}
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
    folder = evaluation_folder(run, out_folder, "capability")
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
