"""Estimate of drift and harm, from some of its trials; nothing is written."""

from __future__ import annotations

from personascope.dynamics.harm._design import HarmDesign
from personascope.dynamics.harm._run import PlanOn, first_request, second_request
from personascope.engines import Engine
from personascope.interventions import Plan
from personascope.judge import JAILBREAK, Judge
from personascope.runs import PROBE, Meter, WorkStep, spread, with_judging


def estimate_harm(
    engine: Engine,
    design: HarmDesign,
    *,
    layer: int,
    judge: Judge | None,
    plan: Plan | None = None,
    plan_on: PlanOn = "both",
    probe: int = PROBE,
) -> WorkStep:
    """Estimate `run_harm` from both replies of some trials.

    Args:
        engine: Engine of the model.
        design: Trials to run.
        layer: Layer at which the first replies are read.
        judge: Judge of the second replies, or None.
        plan: Plan applied to the replies, or None.
        plan_on: Whether the plan acts on both replies or only on the second.
        probe: Number of trials to run.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    trials = [design.trials[place] for place in spread(len(design.trials), probe)]
    openings = {trial.opening.id: trial.opening for trial in trials}
    before = plan if plan_on == "both" else None
    first, second = Meter(engine), Meter(engine)
    replies = {
        done.id.removeprefix("first|"): done.text
        for done in first.run(first_request(design, one, layer, before) for one in openings.values())
    }
    step = first.step("harm", scale=design.n_openings / len(openings))
    asked = {f"second|{trial.id}": trial for trial in trials if replies[trial.opening.id].strip()}
    done = list(
        second.run(second_request(design, trial, replies[trial.opening.id], plan) for trial in asked.values())
    )
    if not done:
        return step
    step += second.step("", scale=len(design.trials) / len(trials))
    read = [(asked[one.id], one.text) for one in done]
    chars = sum(
        len(trial.opening.system_prompt) + len(trial.harmful.question) + len(text) for trial, text in read
    )
    labelled = round(len(design.trials) * len(done) / len(trials))
    return with_judging(step, judge, [(JAILBREAK, labelled)], chars / len(done))
