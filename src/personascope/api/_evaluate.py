"""Role susceptibility, persona jailbreaks, self-description of base models, coherence: each with controls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personascope import report
from personascope.api._comparison import Comparison
from personascope.api._inputs import as_corpus
from personascope.api._judging import JudgeChoice, as_judge, choose_judge
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_chats, load_jailbreak_set
from personascope.directions import nearest_roles
from personascope.evals import (
    EvalRun,
    Table,
    Trials,
    evaluation_table,
    jailbreak_trials,
    opening_trials,
    ordinary_trials,
    run_evaluation,
    susceptibility_trials,
)
from personascope.interventions import PlanModel
from personascope.judge import Judge
from personascope.store import write_json

if TYPE_CHECKING:
    from personascope.engines import LocalEngine


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        run: What is in its folder.
        table: Shares of every condition, against no plan and against random directions.
        results: File of the table.
        figure: File of the figure; None while nothing is labelled.
        judge: What labelled the responses; ``run.judge`` says what that took. None for no judge.
        partial: Whether the judge left responses without a label: the same call judges those again.
    """

    run: EvalRun
    table: Table
    results: Path
    figure: Path | None
    judge: Judge | None
    partial: bool


def susceptibility(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    roles: int = 50,
    prompts: int = 4,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Evaluation:
    """Ask who the model is when it plays a role (section 3.2 of the paper).

    Args:
        mapped: The mapped model.
        compare: What is compared; steering along the axis if not given.
        roles: Roles, nearest the Assistant first.
        prompts: System prompts of each role.
        corpus: Has the roles; the built-in one if not given.
        judge: Labels the responses: a judge, a `JudgeChoice`, or a specification as `parse_judge` takes
            it; None for none.
        out: Folder of the evaluation; that of the run's layout if not given.
        seed: Random seed.
        restart: Forget the run that is in the folder.

    Raises:
        PersonascopeError: Before the model is loaded, if an argument does not fit; else as `run_evaluation`.
    """
    compare, judge = _checked(mapped, compare), choose_judge(judge)
    chosen = nearest_roles(mapped.persona_map, roles)
    trials = susceptibility_trials(as_corpus(corpus), chosen, prompts=prompts)
    return _evaluate(mapped, compare, trials, judge, out, seed, restart)


def jailbreak(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    dataset: str | None = None,
    personas: Path | str | None = None,
    limit: int | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Evaluation:
    """Count how often a persona gets what it should not.

    Args:
        mapped: The mapped model.
        compare: As in `susceptibility`.
        dataset: File or ``hub:owner/name`` of the pairs; the built-in mild set if not given.
        personas: Personas that questions without system prompts are crossed with: "builtin", or a YAML file.
        limit: Pairs of persona and question at most.
        judge: As in `susceptibility`.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Forget the run that is in the folder.

    Raises:
        PersonascopeError: As `susceptibility`.
    """
    compare, judge = _checked(mapped, compare), choose_judge(judge)
    chosen = load_jailbreak_set(dataset or None, personas=personas, limit=limit)
    trials = jailbreak_trials(chosen)
    return _evaluate(mapped, compare, trials, judge, out, seed, restart)


def pretrained(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    base: str | None = None,
    samples: int = 400,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Evaluation:
    """Let a base model say what it is, steered with this map's axis (section 3.2 of the paper).

    Args:
        mapped: The mapped model.
        compare: As in `susceptibility`.
        base: Base model; the map's own if not given. It alone is loaded then.
        samples: Completions of each opening.
        judge: As in `susceptibility`.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Forget the run that is in the folder.

    Raises:
        PersonascopeError: As `susceptibility`; if the base model is of another shape than the map's.
    """
    compare, judge = _checked(mapped, compare), choose_judge(judge)
    engine = mapped.engine if base is None else mapped.load(base)
    if base is not None and engine.chat is None:
        # The unit of strengths is measured on chats, which a base model needs as a transcript.
        engine = engine.with_transcript()
    trials = opening_trials(engine, samples=samples)
    return _evaluate(
        mapped, compare, trials, judge, out, seed, restart, base=None if base is None else engine
    )


def coherence(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    chats: str | None = None,
    limit: int = 1000,
    out: Path | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Evaluation:
    """Ask ordinary questions, and tell repetition, script and language, and perplexity of the answers.

    Args:
        mapped: The mapped model.
        compare: As in `susceptibility`.
        chats: Chats whose first questions are asked; the built-in ones if not given.
        limit: Chats at most.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Forget the run that is in the folder.

    Raises:
        PersonascopeError: As `susceptibility`.
    """
    compare = _checked(mapped, compare)
    trials = ordinary_trials(load_chats(chats, limit=limit).chats)
    return _evaluate(mapped, compare, trials, None, out, seed, restart)


def _checked(mapped: MappedModel, compare: Comparison | None) -> Comparison:
    """Return what is compared, whose layer the map has."""
    found = compare or Comparison()
    mapped.layer(found.layer)
    return found


def _evaluate(
    mapped: MappedModel,
    compare: Comparison,
    trials: Trials,
    judge: Judge | JudgeChoice | None,
    out: Path | None,
    seed: int,
    restart: bool,
    *,
    base: LocalEngine | None = None,
) -> Evaluation:
    """Run the trials under every condition; on the mapped model, or on a base model that its axis steers."""
    target = None
    if base is not None:
        info = base.info
        target = PlanModel(info.model_id, info.model_revision, info.n_layers, info.d_model)
    conditions = compare.conditions(mapped, engine=base, model=target, seed=seed)
    engine = mapped.engine if base is None else base
    scorer = as_judge(judge, mapped.tell)
    for problem in trials.problems:
        mapped.tell(f"left out: {problem}")
    folder = out or mapped.layout.evaluation(trials.name)
    done = run_evaluation(
        engine,
        trials,
        conditions,
        out=folder,
        judge=scorer,
        seed=seed,
        progress=mapped.progress,
        restart=restart,
        command=mapped.command,
    )
    table = evaluation_table(folder, seed=seed)
    write_json(folder / RESULTS, table.as_dict())
    figure = None
    if not trials.rubrics or done.unscored < done.responses:
        title = f"{trials.name}: {engine.info.model_id}"
        figure = report.save_evaluation_figure(folder / f"{trials.name}.png", table, title=title)
    return Evaluation(done, table, folder / RESULTS, figure, scorer, done.partial and scorer is not None)
