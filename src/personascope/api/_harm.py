"""Drift and harm: whether a first reply far from the Assistant predicts harm in the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope import __version__, report
from personascope.api._comparison import checked_kinds
from personascope.api._estimate import (
    Prepared,
    WorkEstimate,
    estimable,
    estimated_judge,
    judging_remarks,
    resumed_remark,
    written,
)
from personascope.api._inputs import as_corpus, as_folder, as_plan
from personascope.api._judging import JudgeChoice, as_judge, choose_judge
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.api._tabular import Tabular
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_harmful_questions
from personascope.directions import CONTROLS, spread_roles
from personascope.dynamics.harm import (
    HarmResult,
    HarmRun,
    PlanOn,
    estimate_harm,
    harm_design,
    harm_result,
    read_harm,
    run_harm,
)
from personascope.errors import EvaluationError
from personascope.interventions import Plan
from personascope.judge import Judge
from personascope.store import write_json

HARM = "harm"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class HarmEvaluation(Tabular):
    """Result of drift and harm, with its files.

    Attributes:
        run: Summary of the run folder.
        result: Bins, correlations and fit; None while nothing is labelled.
        results: File of the result; None while nothing is labelled.
        figure: File of the figure; None while nothing is labelled.
        judge: Judge of the replies, or None; ``run.judge`` has its statistics.
        partial: Whether the judge left replies without a label; the same call judges them again.
    """

    run: HarmRun
    result: HarmResult | None
    results: Path | None
    figure: Path | None
    judge: Judge | None
    partial: bool

    def headline(self) -> str:
        """Return the share of harmful replies and the number of trials, or that nothing is labelled."""
        if self.result is None:
            return f"drift and harm: {self.run.trials} trials, none labelled"
        found = self.result
        return f"drift and harm: {found.harmful.estimate:.1%} of {found.n} second replies harmful"

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each role: mean position of the first replies, harmful share of the second."""
        roles = () if self.result is None else self.result.roles
        return [
            {"role": one.role, "position": one.position, "harmful": one.harmful, "n": one.n} for one in roles
        ]

    def notes(self) -> tuple[str, ...]:
        """Return the caveats of the result."""
        return () if self.result is None else self.result.notes

    def plot(self) -> report.Plot:
        """Return the figure of harm by position.

        Raises:
            EvaluationError: If no reply is labelled.
        """
        found = self.result
        if found is None:
            raise EvaluationError("no reply is labelled, so there is nothing to draw", hint="give a judge")
        about = {"evaluation": str(self.run.path), "personascope": __version__}
        return report.Plot("Drift and harm", lambda path: report.save_harm_figure(path, found), about)


@estimable
def harm(
    mapped: MappedModel,
    *,
    roles: int | None = None,
    questions: int = 10,
    per_reply: int = 1,
    dataset: str | None = None,
    limit: int | None = None,
    no_role: bool = True,
    plan: Plan | Path | str | None = None,
    plan_on: PlanOn = "both",
    n_random: int = 50,
    controls: Sequence[str] = CONTROLS,
    bins: int = 8,
    layer: int | None = None,
    first_tokens: int = 128,
    second_tokens: int = 96,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | str | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Prepared[HarmEvaluation]:
    """Evaluate harm after drift: a first reply in a role, then a harmful question (section 4 of the paper).

    Args:
        mapped: Mapped model.
        roles: Number of roles, spread over the axis; all of the corpus if not given (the paper's 275).
        questions: Number of first questions, the same for every role.
        per_reply: Number of harmful questions asked after each first reply.
        dataset: File or ``hub:owner/name`` of harmful questions; the built-in mild ones if not given.
        limit: Maximum number of harmful questions.
        no_role: Whether to ask without a role too, as a control.
        plan: Plan to apply.
        plan_on: Replies that the plan acts on.
        n_random: Number of control directions of each kind to compare with the axis; they cost no generation.
        controls: Kinds of control directions: "isotropic", "shuffled", "role-span".
        bins: Maximum number of bins by position.
        layer: Layer at which first replies are read; the map's middle layer if not given.
        first_tokens: Maximum length of a first reply, in tokens.
        second_tokens: Maximum length of a second reply, in tokens.
        corpus: Corpus with the roles; the built-in one if not given.
        judge: Judge that labels the second replies, as in `susceptibility`; None for no judge.
        out: Folder of the evaluation; the run layout's if not given.
        seed: Random seed.
        restart: Discard the run that is already in the folder.

    Raises:
        PersonascopeError: If an argument does not fit, before the model is loaded; else as in `run_harm`.
    """
    acting = as_plan(plan)
    asked, texts = load_harmful_questions(dataset, limit=limit), as_corpus(corpus)
    judge = choose_judge(judge)
    mapped.layer(layer)
    kinds = checked_kinds(mapped, controls, n_random)
    chosen = None if roles is None else spread_roles(mapped.persona_map, roles, layer=layer)
    engine = mapped.engine
    design = harm_design(
        texts,
        asked,
        model_name=Path(engine.info.model_id.rstrip("/")).name,
        roles=chosen,
        questions=questions,
        per_reply=per_reply,
        no_role=no_role,
        seed=seed,
        first_tokens=first_tokens,
        second_tokens=second_tokens,
    )
    for problem in design.problems:
        mapped.tell(f"left out: {problem}")
    folder = as_folder(out, mapped.layout.evaluation(HARM))

    def estimate() -> WorkEstimate:
        at = mapped.layer(layer)
        step = estimate_harm(
            engine, design, layer=at, judge=estimated_judge(judge), plan=acting, plan_on=plan_on
        )
        files = written(folder, ("manifest.json", "units", RESULTS, f"{HARM}.png"))
        counts = (
            f"{len(design.roles)} groups of trials: {design.n_openings} first replies, "
            f"{len(design.trials)} second ones"
        )
        return WorkEstimate(HARM, (step,), files, (counts, *judging_remarks(judge), *resumed_remark(folder)))

    def run() -> HarmEvaluation:
        scorer = as_judge(judge, mapped.tell)
        done = _run_design(scorer)
        partial = done.partial and scorer is not None
        if done.unscored + done.empty == done.trials:
            return HarmEvaluation(done, None, None, None, scorer, partial)
        result = harm_result(
            read_harm(folder), mapped.persona_map, bins=bins, n_random=n_random, kinds=kinds, seed=seed
        )
        write_json(folder / RESULTS, result.record())
        figure = report.save_harm_figure(folder / f"{HARM}.png", result)
        return HarmEvaluation(done, result, folder / RESULTS, figure, scorer, partial)

    def _run_design(scorer: Judge | None) -> HarmRun:
        return run_harm(
            engine,
            mapped.persona_map,
            design,
            out=folder,
            judge=scorer,
            layer=layer,
            plan=acting,
            plan_on=plan_on,
            progress=mapped.progress,
            restart=restart,
            command=mapped.command,
        )

    return Prepared(estimate, run)
