"""``personascope evaluate capability``: tasks of lm-evaluation-harness under plans and their controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import PARTLY, err, out
from personascope.cli._controls import print_comparisons
from personascope.cli._estimate import print_estimate
from personascope.cli._grid import grid
from personascope.cli._groups import EngineOptions, grouped
from personascope.cli._json import hand_over
from personascope.cli._options import (
    CONTROLS,
    DRY_RUN,
    EVALUATION,
    N_RANDOM,
    PLANS,
    RUN,
    names,
)

if TYPE_CHECKING:
    from personascope.api import CapabilityEvaluation
    from personascope.stats import Difference


@grouped
def capability(
    run: Path = RUN,
    out_folder: Path | None = EVALUATION,
    tasks: str | None = typer.Option(
        None, help="Tasks of lm-evaluation-harness, with commas; ifeval,mmlu_pro,gsm8k,eq_bench if not given."
    ),
    plans: list[Path] | None = PLANS,
    n_random: int = N_RANDOM,
    controls: str = CONTROLS,
    limit: int | None = typer.Option(None, min=1, help="Examples of each task at most."),
    engine: EngineOptions = EngineOptions(),
    dry_run: bool = DRY_RUN,
) -> None:
    """Capability: tasks of lm-evaluation-harness without a plan, with plans, and with their controls."""
    acting = api.load_plans(plans or ())
    mapped = engine.open(run)
    work = api.capability.prepare(
        mapped,
        acting,
        tasks=None if tasks is None else names(tasks),
        n_random=n_random,
        controls=names(controls),
        limit=limit,
        out=out_folder,
    )
    if dry_run:
        print_estimate(work.estimate)
        return
    found = work.run()
    _print_rows(found)
    print_comparisons([(r.condition, r.task.name, r.against_controls, r.conclusion) for r in found.rows])
    out.print(f"results in {found.results}")
    for task, why in found.failed.items():
        err.print(f"[yellow]not run:[/] {task} {why}", soft_wrap=True)
    if found.failed:
        raise typer.Exit(PARTLY)


def _print_rows(found: CapabilityEvaluation) -> None:
    hand_over(results=found.records())
    table = grid(
        "", "condition", "task", "metric", "value", "n", "less no plan", "95%", "p", "fired",
        words=("condition", "task", "metric"),
    )  # fmt: skip
    for row in found.rows:
        metric, fired = row.task.headline, row.firing_share
        table.add_row(
            row.condition,
            row.task.name,
            f"{metric.name} ({metric.filter})",
            f"{metric.value:.4f}",
            str(row.task.documents),
            *_difference(row.against_plain),
            "" if fired is None else f"{fired:.0%}",
        )
    out.print(table)


def _difference(found: Difference | None) -> tuple[str, str, str]:
    if found is None:
        return "", "", ""
    return f"{found.estimate:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.p_value:.4f}"
