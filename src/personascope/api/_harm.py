"""Whether a first reply far from the Assistant foretells harm in the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from personascope import report
from personascope.api._inputs import as_corpus, as_plan
from personascope.api._judging import JudgeChoice, as_judge, choose_judge
from personascope.api._layout import RESULTS
from personascope.api._mapped_model import MappedModel
from personascope.corpus import Corpus
from personascope.corpus.datasets import load_harmful_questions
from personascope.directions import spread_roles
from personascope.dynamics.harm import (
    HarmResult,
    HarmRun,
    PlanOn,
    harm_design,
    harm_result,
    read_harm,
    run_harm,
)
from personascope.interventions import Plan
from personascope.judge import Judge
from personascope.store import write_json

HARM = "harm"


@dataclass(frozen=True, slots=True, eq=False)
class HarmEvaluation:
    """What came of the trials.

    Attributes:
        run: What is in their folder.
        result: Bins, correlations and fit; None while nothing is labelled.
        results: File of the result, None likewise.
        figure: File of the figure, None likewise.
        judge: What labelled the replies; ``run.judge`` says what that took. None for no judge.
        partial: Whether the judge left replies without a label: the same call judges those again.
    """

    run: HarmRun
    result: HarmResult | None
    results: Path | None
    figure: Path | None
    judge: Judge | None
    partial: bool


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
    bins: int = 8,
    layer: int | None = None,
    first_tokens: int = 128,
    second_tokens: int = 96,
    corpus: Corpus | Path | str | None = None,
    judge: Judge | JudgeChoice | str | None = "rules",
    out: Path | None = None,
    seed: int = 0,
    restart: bool = False,
) -> HarmEvaluation:
    """Ask for a first reply in a role, then a harmful question (section 4 of the paper).

    Args:
        mapped: The mapped model.
        roles: Roles, spread over the axis; all of the corpus if not given (the paper's 275).
        questions: First questions, the same for every role.
        per_reply: Harmful questions asked after each first reply.
        dataset: File or ``hub:owner/name`` of harmful questions; the built-in mild ones if not given.
        limit: Harmful questions at most.
        no_role: Also ask without a role, as a control.
        plan: Act with this plan.
        plan_on: Replies that the plan acts on.
        n_random: Random directions beside the axis; they cost no generation.
        bins: Bins of the figure.
        layer: Layer that is read; the map's middle layer if not given.
        first_tokens: Tokens of a first reply at most.
        second_tokens: Tokens of a second reply at most.
        corpus: Has the roles; the built-in one if not given.
        judge: Labels the second replies, as in `susceptibility`; None for none.
        out: Folder of the evaluation; that of the run's layout if not given.
        seed: Random seed.
        restart: Forget the run that is in the folder.

    Raises:
        PersonascopeError: Before the model is loaded, if an argument does not fit; else as `run_harm`.
    """
    acting = as_plan(plan)
    asked, texts = load_harmful_questions(dataset, limit=limit), as_corpus(corpus)
    judge = choose_judge(judge)
    mapped.layer(layer)
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
    scorer = as_judge(judge, mapped.tell)
    folder = out or mapped.layout.evaluation(HARM)
    done = run_harm(
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
    partial = done.partial and scorer is not None
    if done.unscored + done.empty == done.trials:
        return HarmEvaluation(done, None, None, None, scorer, partial)
    result = harm_result(read_harm(folder), mapped.persona_map, bins=bins, n_random=n_random, seed=seed)
    write_json(folder / RESULTS, result.record())
    figure = report.save_harm_figure(folder / f"{HARM}.png", result)
    return HarmEvaluation(done, result, folder / RESULTS, figure, scorer, partial)
