"""Evaluations with controls: susceptibility, jailbreaks, self-description of base models, coherence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import __version__, report
from personascope.api._comparison import Comparison, checked_kinds
from personascope.api._estimate import (
    Prepared,
    WorkEstimate,
    estimable,
    estimated_judge,
    judging_remarks,
    resumed_remark,
    written,
)
from personascope.api._inputs import as_corpus, as_folder
from personascope.api._judging import JudgeChoice, as_judge, choose_judge
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_chats, load_jailbreak_set
from personascope.directions import CONTROLS, ControlKind, nearest_roles
from personascope.evals import (
    Condition,
    EvalRun,
    Result,
    Table,
    Trials,
    control_counts,
    estimate_evaluation,
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Evaluation(Tabular):
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

    def headline(self) -> str:
        """Return the evaluation, its conditions, and what is missing."""
        names = list(dict.fromkeys(result.condition for result in self.table.results))
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        missing = f"; {self.run.unscored} have no label" if self.run.unscored else ""
        return f"{self.table.name} under {shown}; {self.run.responses} responses{missing}"

    def shown(self) -> tuple[str, ...]:
        """Return the columns of the card."""
        return ("condition", "measure", "share", "low", "high", "n", "less_plain", "conclusion")

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each condition and measure: share, and differences from no plan and controls."""
        return [_record(result) for result in self.table.results]

    def notes(self) -> tuple[str, ...]:
        """Return the caveats of the table."""
        return (*self.table.notes, *(f"{name}: {why}" for name, why in self.table.caveats.items()))

    def plot(self, plan: str = "") -> report.Plot:
        """Return the figure of the evaluation.

        Args:
            plan: Name of the plan to show beside no plan and its controls; the first one if not given.
        """
        return report.Plot(
            self.table.name,
            lambda path: report.save_evaluation_figure(path, self.table, plan=plan),
            {"evaluation": str(self.run.path), "personascope": __version__},
        )


def _record(result: Result) -> dict[str, Any]:
    plain = result.against_plain
    return {
        "condition": result.condition,
        "kind": result.kind,
        "strength": result.strength,
        "measure": result.measure,
        "share": result.share.estimate,
        "low": result.share.low,
        "high": result.share.high,
        "n": result.share.n,
        "unscored": result.unscored,
        "less_plain": None if plain is None else plain.estimate,
        "less_plain_low": None if plain is None else plain.low,
        "less_plain_high": None if plain is None else plain.high,
        "less_plain_p": None if plain is None else plain.p_value,
        **{name: value for kind in CONTROLS for name, value in _less(result, kind).items()},
        "effect": None if result.conclusion is None else result.conclusion.effect,
        "conclusion": None if result.conclusion is None else result.conclusion.words,
    }


def _less(result: Result, kind: ControlKind) -> dict[str, float | None]:
    """Return the difference from the controls of a kind; None where there are none."""
    found = result.against_controls.get(kind)
    pooled = None if found is None else found.pooled
    return {
        f"less_{kind}": None if pooled is None else pooled.estimate,
        f"less_{kind}_low": None if pooled is None else pooled.low,
        f"less_{kind}_high": None if pooled is None else pooled.high,
    }


@estimable
def susceptibility(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    roles: int = 50,
    prompts: int = 4,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[Evaluation]:
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


@estimable
def jailbreak(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    dataset: str | None = None,
    personas: Path | str | None = None,
    limit: int | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[Evaluation]:
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


@estimable
def pretrained(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    base: str | None = None,
    samples: int = 400,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[Evaluation]:
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


@estimable
def coherence(
    mapped: MappedModel,
    compare: Comparison | None = None,
    *,
    chats: str | None = None,
    limit: int = 1000,
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[Evaluation]:
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
    out: Path | str | None,
    seed: int,
    restart: bool,
    *,
    base: LocalEngine | None = None,
) -> Prepared[Evaluation]:
    """Prepare the trials under every condition on the mapped model, or on a base model."""
    target = None
    if base is not None:
        info = base.info
        target = PlanModel(info.model_id, info.model_revision, info.n_layers, info.d_model)
    folder = as_folder(out, mapped.layout.evaluation(trials.name))
    for problem in trials.problems:
        mapped.tell(f"left out: {problem}")

    def estimate() -> WorkEstimate:
        norms, measuring = (None, None) if compare.plans else mapped.estimate_norms(base)
        conditions = compare.conditions(mapped, engine=base, model=target, norms=norms, seed=seed)
        step = estimate_evaluation(
            mapped.engine if base is None else base,
            trials,
            conditions,
            judge=estimated_judge(judge),
            seed=seed,
        )
        return WorkEstimate(
            trials.name,
            (step,) if measuring is None else (measuring, step),
            written(folder, ("manifest.json", "units", RESULTS, f"{trials.name}.png")),
            (
                f"{control_counts(conditions)}, of {len(trials.items)} trials each",
                *judging_remarks(judge),
                *resumed_remark(folder),
            ),
        )

    def run() -> Evaluation:
        conditions = compare.conditions(mapped, engine=base, model=target, seed=seed)
        engine = mapped.engine if base is None else base
        return _run(mapped, engine, trials, conditions, judge, folder, seed, restart)

    return Prepared(estimate, run)


def _run(
    mapped: MappedModel,
    engine: LocalEngine,
    trials: Trials,
    conditions: Sequence[Condition],
    judge: Judge | JudgeChoice | None,
    folder: Path,
    seed: int,
    restart: bool,
) -> Evaluation:
    """Run the trials under every condition, and write the results."""
    scorer = as_judge(judge, mapped.tell)
    n_trials = len(trials.items)
    mapped.tell(
        f"{control_counts(conditions)}, of {n_trials} trials each: {len(conditions) * n_trials} responses"
    )
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
