"""Estimates of the evaluations, from a probe spread over trials and conditions; nothing is written."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from personascope.chat import Conversation
from personascope.corpus.datasets import ChoiceQuestion
from personascope.engines import Engine, Request, ScoreRequest
from personascope.evals._basics import answer_tokens
from personascope.evals._conditions import Condition
from personascope.evals._divergence import ANSWER_TOKENS, answer_sampling, first_messages
from personascope.evals._perplexity import perplexities
from personascope.evals._run import PERPLEXITIES
from personascope.evals._trials import Trials
from personascope.judge import Judge
from personascope.runs import PROBE, Meter, WorkStep, spread, with_judging


def estimate_evaluation(
    engine: Engine,
    trials: Trials,
    conditions: Sequence[Condition],
    *,
    judge: Judge | None,
    seed: int = 0,
    probe: int = PROBE,
) -> WorkStep:
    """Estimate `run_evaluation` from some of its own responses, under their own conditions.

    Args:
        engine: Engine of the model.
        trials: Trials of the evaluation.
        conditions: Conditions to run.
        judge: Judge that labels the responses, or None.
        seed: Random seed.
        probe: Number of responses to generate.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    total = len(trials.items) * len(conditions)
    cells = [divmod(place, len(trials.items)) for place in spread(total, probe)]
    sample = {
        f"{conditions[under].name}|{trials.items[item].id}": (conditions[under], trials.items[item])
        for under, item in cells
    }
    meter, again = Meter(engine), Meter(engine)
    done = list(
        meter.run(
            Request(id, trial.prompt, trials.sampling, plan=condition.plan, seed=seed)
            for id, (condition, trial) in sample.items()
        )
    )
    step = meter.step(trials.name, scale=total / len(sample))
    perplexities(again, [(one.id, sample[one.id][1].prompt, one.token_ids) for one in done])
    if again.passes:
        read = len(conditions) * min(PERPLEXITIES, len(trials.items))
        step += again.step("", scale=read / again.passes)
    shown = [(sample[one.id][1], one.text) for one in done]
    chars = sum(len(t.system_prompt) + len(t.question) + len(text) for t, text in shown) / len(shown)
    labelled = Counter(rubric for trial in trials.items for rubric in trial.rubrics)
    counts = [(rubric, count * len(conditions)) for rubric, count in labelled.items()]
    return with_judging(step, judge, counts, chars)


def estimate_basics(
    engine: Engine,
    conditions: Sequence[Condition],
    questions: Sequence[ChoiceQuestion],
    *,
    probe: int = PROBE,
) -> WorkStep:
    """Estimate `run_basics` from some of its own answers.

    Args:
        engine: Engine of the model.
        conditions: Conditions to run.
        questions: Questions of the capability task.
        probe: Number of answers to score.

    Raises:
        EngineError: If the engine fails on the probe, or its tokenizer joins a question and its answer.
    """
    answers = [pair for question in questions for pair in answer_tokens(engine, question)]
    total = len(answers) * len(conditions)
    meter = Meter(engine)
    sample = [divmod(place, len(answers)) for place in spread(total, probe)]
    requests = [
        ScoreRequest(f"{under}/{place}", *answers[place], conditions[under].plan) for under, place in sample
    ]
    deque(meter.score(requests), maxlen=0)
    return meter.step("basics", scale=total / len(sample))


def estimate_divergence(
    engine: Engine,
    conditions: Sequence[Condition],
    chats: Sequence[Conversation],
    *,
    seed: int = 0,
    probe: int = 4,
) -> WorkStep:
    """Estimate `run_divergence` from the answers to some of its chats, scored under some conditions.

    Args:
        engine: Engine of the model.
        conditions: Conditions to run.
        chats: Chats whose first user message is answered.
        seed: Random seed.
        probe: Number of chats to answer, each of which is scored without a plan and under a condition.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    asked = first_messages(chats)
    planned = [condition.plan for condition in conditions if condition.plan is not None]
    places = spread(len(asked), probe)
    prompts = {f"chat/{place}": (asked[place],) for place in places}
    answering, scoring = Meter(engine), Meter(engine)
    sampling = answer_sampling(ANSWER_TOKENS)
    answers = {
        done.id: done.token_ids
        for done in answering.run(Request(id, prompt, sampling, seed=seed) for id, prompt in prompts.items())
    }
    step = answering.step("divergence", scale=len(asked) / len(places))
    under = [None, *(planned[place] for place in spread(len(planned), 1))]
    for plan in under:
        requests = [ScoreRequest(id, prompts[id], answer, plan) for id, answer in answers.items() if answer]
        deque(scoring.score(requests), maxlen=0)
    if scoring.passes:
        step += scoring.step("", scale=len(asked) * (len(planned) + 1) / scoring.passes)
    return step
