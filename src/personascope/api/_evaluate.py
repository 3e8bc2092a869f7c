"""Evaluations with controls: susceptibility, jailbreaks, self-description of base models, coherence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personascope import report
from personascope.api._comparison import Comparison, checked_kinds
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
    control_counts,
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
    """Result of an evaluation, with its files.

    Attributes:
        run: Summary of the run folder.
        table: Shares of every condition, compared with no plan and with every kind of control.
        results: File of the table.
        figure: File of the figure; None while nothing is labelled.
        judge: Judge of the responses, or None; ``run.judge`` has its statistics.
        partial: Whether the judge left responses without a label; the same call judges them again.
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
    """Evaluate role susceptibility: who the model says it is in a role (section 3.2 of the paper).

    Args:
        mapped: Mapped model.
        compare: Conditions to compare; steering along the axis if not given.
        roles: Number of roles, those nearest the Assistant.
        prompts: Number of system prompts per role.
        corpus: Corpus with the roles; the built-in one if not given.
        judge: Judge that labels the responses: a judge, a `JudgeChoice`, or a specification (`parse_judge`);
            None for no judge.
        out: Folder of the evaluation; the run layout's if not given.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: If an argument does not fit, before the model is loaded; else as in
            `run_evaluation`.
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
    """Evaluate persona jailbreaks: how often a persona gets the model to comply with harmful requests.

    Args:
        mapped: Mapped model.
        compare: As in `susceptibility`.
        dataset: File or ``hub:owner/name`` of the pairs; the built-in mild set if not given.
        personas: Personas to cross with questions that have no system prompt: "builtin", or a YAML file.
        limit: Maximum number of question-persona pairs.
        judge: As in `susceptibility`.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: As in `susceptibility`.
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
    """Evaluate a base model's self-descriptions, steered with this map's axis (section 3.2 of the paper).

    Args:
        mapped: Mapped model.
        compare: As in `susceptibility`.
        base: Base model to load instead of the map's model; the map's model if not given.
        samples: Number of completions per opening.
        judge: As in `susceptibility`.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: As in `susceptibility`, or if the base model's shape is not the map's.
    """
    compare, judge = _checked(mapped, compare), choose_judge(judge)
    engine = mapped.engine if base is None else mapped.load(base)
    if base is not None and engine.chat is None:
        # Norms are measured on chats, which a base model can only read as a transcript.
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
    """Evaluate coherence on ordinary questions: repetition, script and language, perplexity.

    Args:
        mapped: Mapped model.
        compare: As in `susceptibility`.
        chats: Chats whose first user messages are asked; the built-in ones if not given.
        limit: Maximum number of chats.
        out: As in `susceptibility`.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: As in `susceptibility`.
    """
    compare = _checked(mapped, compare)
    trials = ordinary_trials(load_chats(chats, limit=limit).chats)
    return _evaluate(mapped, compare, trials, None, out, seed, restart)


def _checked(mapped: MappedModel, compare: Comparison | None) -> Comparison:
    """Return the comparison (or the default one), after checking it against the map."""
    found = compare or Comparison()
    mapped.layer(found.layer)
    checked_kinds(mapped, found.controls, found.n_random)
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
    """Run the trials under every condition on the mapped model, or on a base model; write the results."""
    target = None
    if base is not None:
        info = base.info
        target = PlanModel(info.model_id, info.model_revision, info.n_layers, info.d_model)
    conditions = compare.conditions(mapped, engine=base, model=target, seed=seed)
    engine = mapped.engine if base is None else base
    scorer = as_judge(judge, mapped.tell)
    for problem in trials.problems:
        mapped.tell(f"left out: {problem}")
    n_trials = len(trials.items)
    mapped.tell(
        f"{control_counts(conditions)}, of {n_trials} trials each: {len(conditions) * n_trials} responses"
    )
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
