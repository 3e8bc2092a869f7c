"""``personascope calibrate``: the sweep that finds a cap."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table as Grid

from personascope import report
from personascope.calibration import PLAN, RESULT, Sample, SweepSettings, calibrate, parse_window
from personascope.cli._console import PARTLY, err, out, this_command
from personascope.cli._engine import JudgeChoice, open_engine, run_folder
from personascope.cli._judging import print_judging
from personascope.cli._options import (
    ADDRESS,
    ANYWAY,
    BATCH,
    CORPUS,
    DTYPE,
    ENGINE,
    FALLBACK,
    FALLBACK_HEADER,
    FALLBACK_PRICE,
    JUDGE,
    JUDGE_HEADER,
    JUDGE_PRICE,
    MAX_COST,
    MODEL,
    PERSONAS,
    RESTART,
    RUN_KEPT,
    SEED,
    WORKERS,
    DtypeName,
    EngineName,
    names,
    numbers,
)
from personascope.cli._verdict import open_found_map
from personascope.corpus import load_corpus
from personascope.corpus.datasets import load_jailbreak_set
from personascope.errors import UsageError
from personascope.judge import harm_warning

if TYPE_CHECKING:
    from personascope.calibration import Calibration
    from personascope.judge import Judge


def calibrate_model(
    run: Path = RUN_KEPT,
    out_folder: Path = typer.Option(
        None, "--out", help="Folder of the sweep; <run>/calibration if not given."
    ),
    windows: str = typer.Option(None, help="Bands of layers with commas, such as 14:22,18:26."),
    axis_percentiles: str = typer.Option(
        "25,50,75,90", help="Floors as percentiles of role responses on the axis. Higher is stronger."
    ),
    draws: int = typer.Option(1, min=0, help="Random directions beside every cap."),
    roles: int = typer.Option(50, min=1, help="Roles of the susceptibility trials."),
    prompts: int = typer.Option(1, min=1, help="System prompts of each role."),
    dataset: str = typer.Option(None, help="Jailbreak set; the built-in mild one if not given."),
    personas: str = PERSONAS,
    jailbreaks: int = typer.Option(None, min=1, help="Jailbreak pairs at most."),
    questions: int = typer.Option(
        None, min=1, max=160, help="Questions of the capability task; 160 if not given."
    ),
    max_capability_loss: float = typer.Option(
        0.02, min=0.0, help="Accuracy that a recommended cap may cost."
    ),
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
    anyway: bool = ANYWAY,
) -> None:
    """Sweep caps over layers and floors; recommend one (section 5 of the paper)."""
    make_judge = _judge_maker(
        JudgeChoice.read(
            judge,
            fallback_judge,
            headers=judge_header,
            fallback_headers=fallback_header,
            price=judge_price,
            fallback_price=fallback_price,
            max_cost=max_cost,
        )
    )
    persona_map = open_found_map(run, anyway=anyway)
    bands = (
        None
        if windows is None
        else tuple(parse_window(band, persona_map.n_layers) for band in names(windows))
    )
    floors = tuple(numbers(axis_percentiles, "axis-percentiles"))
    texts, attacks = load_corpus(corpus), None
    if dataset or personas:
        attacks = load_jailbreak_set(dataset or None, personas=personas)
    sample = Sample.open(run_folder(run))
    _, engine = open_engine(
        persona_map,
        model=model,
        kind=engine_kind,
        dtype=dtype,
        max_batch=max_batch,
        workers=workers,
        address=address,
    )
    settings = SweepSettings(
        windows=bands,
        axis_percentiles=floors,
        draws=draws,
        roles=roles,
        prompts=prompts,
        jailbreaks=jailbreaks,
        questions=questions,
        max_capability_loss=max_capability_loss,
    )
    folder = out_folder or run_folder(run) / "calibration"
    result = calibrate(
        engine,
        sample,
        texts,
        out=folder,
        judge=make_judge,
        settings=settings,
        jailbreaks=attacks,
        seed=seed,
        restart=restart,
        command=this_command(),
    )
    _print_calibration(result)
    figure = folder / "pareto.png"
    report.save_calibration_figure(figure, result)
    out.print(f"cells in {folder / RESULT}, figure in {figure}")
    if result.jailbreak.caveats:
        err.print(f"[yellow]warning:[/] {harm_warning()}", soft_wrap=True)
    scorer = make_judge()
    print_judging(scorer.name, scorer.stats)
    if result.plan is not None:
        out.print(f"[bold]recommended:[/] {result.recommended} ({result.why}); plan in {folder / PLAN}")
    else:
        out.print(f"[bold]no cap is recommended:[/] {result.why}")
    if result.partial:
        err.print("[yellow]partly done:[/] labels are missing; run the same command again")
        raise typer.Exit(PARTLY)


def _judge_maker(choice: JudgeChoice) -> Callable[[], Judge]:
    if choice.spec.strip() == "none":
        raise UsageError("a sweep needs a judge", hint="give --judge rules, openai:... or local:...")

    @cache
    def make() -> Judge:
        judge = choice.open()
        assert judge is not None
        return judge

    return make


def _print_calibration(result: Calibration) -> None:
    caveats = dict.fromkeys(result.jailbreak.caveats.values())
    grid = Grid(
        title="caps, each less no plan; * on the Pareto front"
        + "".join(f"\n[yellow](harmful by the {caveat})[/]" for caveat in caveats)
    )
    for name in ("cap", "Assistant", "p", "harmful", "p ", "capability", "incoherent", "fired"):
        grid.add_column(name, justify="left" if name == "cap" else "right")
    for cell in result.cells:
        grid.add_row(
            cell.condition + (" *" if cell.condition in result.front else ""),
            f"{cell.assistant.estimate:+.3f}",
            f"{cell.assistant.p_value:.3f}",
            f"{cell.harmful.estimate:+.3f}",
            f"{cell.harmful.p_value:.3f}",
            f"{cell.capability.estimate:+.3f}",
            f"{cell.incoherent:+.3f}",
            f"{cell.firing_share:.0%}",
        )
    out.print(grid)
