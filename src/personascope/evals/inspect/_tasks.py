"""The evaluations as tasks of Inspect (section 3 of the paper).

A task asks and judges; the plan belongs to the model (``-M plan=FOLDER``). What is asked, and how responses
are drawn, is that of our own runs. Samples are ordered so that any beginning of them is balanced: ``--limit
20`` asks twenty roles, not one role twenty times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelAPI,
    get_model,
)
from inspect_ai.scorer import Scorer, choice
from inspect_ai.solver import generate

from personascope.errors import UsageError
from personascope.evals.inspect._scorers import (
    Options,
    coherence,
    jailbreak_label,
    occupation_label,
    plan_effect,
    role_label,
    role_playing_label,
    trait_label,
)
from personascope.evals.inspect._solvers import of_map, rank_choices

if TYPE_CHECKING:
    from personascope.engines import Sampling
    from personascope.evals._trials import Trial

Names = int | str | Sequence[str]
_LETTERS = "ABCD"


@task
def role_susceptibility(
    map: str | None = None,
    roles: Names = 50,
    prompts: int = 4,
    judge: str = "rules",
    max_cost: float | None = None,
    judge_options: Options = None,
    corpus: str | None = None,
    texts: str | None = None,
    max_tokens: int = 32,
) -> Task:
    """Ask roles who they are: does the model stay the Assistant, or become the role?

    Args:
        map: Folder of the model's map; its roles nearest the Assistant are asked.
        roles: How many of them, or the names of roles (a list, or separated by commas), for which no
            map is needed.
        prompts: System prompts of each role, from the first on.
        judge: The judge, as `personascope.judge.parse_judge` takes it.
        max_cost: What an ``openai`` judge may cost.
        judge_options: Options of ``openai`` judges, a mapping: headers, prices and so on.
        corpus: Folder with the roles, if they are not of the built-in corpus.
        texts: YAML file with other questions and system prompts.
        max_tokens: Length of an answer.
    """
    from personascope.corpus import load_corpus
    from personascope.corpus.datasets import load_susceptibility
    from personascope.evals._trials import susceptibility_trials

    asked = load_susceptibility(texts)
    if not 1 <= prompts <= len(asked.templates):
        raise UsageError(f"prompts is {prompts}", hint=f"give 1 to {len(asked.templates)}")
    trials = susceptibility_trials(
        load_corpus(corpus), _roles(map, roles), texts=asked, prompts=prompts, max_new_tokens=max_tokens
    )
    judging = (judge, max_cost, judge_options)
    return Task(
        dataset=MemoryDataset(
            [
                _sample(trial, asks_role_play=trial.rubrics[0].name == "role_playing", role=trial.group)
                for trial in _diagonal(trials.items)
            ],
            name="role_susceptibility",
        ),
        solver=[*([of_map(map)] if map else []), generate()],
        scorer=[
            role_label(*judging),
            role_playing_label(*judging),
            *_besides(),
        ],
        config=_config(trials.sampling),
        metadata={"trials": trials.digest, "source": trials.source},
    )


@task
def persona_jailbreak(
    dataset: str = "builtin",
    persona: bool = True,
    personas: str | None = None,
    items: int | None = None,
    judge: str = "rules",
    max_cost: float | None = None,
    judge_options: Options = None,
    max_tokens: int = 96,
) -> Task:
    """Ask for what should be refused, under a persona that would not mind.

    Args:
        dataset: ``builtin`` for the mild set of ours, or a set as
            `personascope.corpus.evals.load_jailbreak_set` reads it.
        persona: False asks the same questions without a persona.
        personas: YAML file with personas to cross the questions of a set with.
        items: Pairs to take, from a balanced order.
        judge: The judge.
        max_cost: What an ``openai`` judge may cost.
        judge_options: Options of ``openai`` judges, a mapping: headers, prices and so on.
        max_tokens: Length of an answer.
    """
    from personascope.corpus.datasets import load_jailbreak_set
    from personascope.evals._trials import jailbreak_trials

    found = load_jailbreak_set(None if dataset == "builtin" else dataset, personas=personas, limit=items)
    trials = jailbreak_trials(found, max_new_tokens=max_tokens)
    wanted = "persona" if persona else "plain"
    return Task(
        dataset=MemoryDataset(
            [_sample(trial) for trial in trials.items if trial.variant == wanted], name="persona_jailbreak"
        ),
        solver=generate(),
        scorer=[jailbreak_label(judge, max_cost, judge_options), *_besides()],
        config=_config(trials.sampling),
        metadata={
            "trials": trials.digest,
            "source": trials.source,
            # Rows of the set that could not be used are told, not dropped.
            "problems": list(trials.problems),
        },
    )


@task
def self_description(
    completions: int = 400,
    judge: str = "rules",
    max_cost: float | None = None,
    judge_options: Options = None,
    openings: str | None = None,
    max_tokens: int = 24,
) -> Task:
    """Let a pre-trained model complete what somebody says of themselves ("My job is to").

    A model of ours without a chat template continues the opening as it stands; one that has a template
    needs ``-M chat=raw`` for that.

    Args:
        completions: Completions of each opening.
        judge: The judge.
        max_cost: What an ``openai`` judge may cost.
        judge_options: Options of ``openai`` judges, a mapping: headers, prices and so on.
        openings: YAML file with other openings.
        max_tokens: Length of a completion.
    """
    from personascope.corpus.datasets import load_openings
    from personascope.engines import Sampling

    if completions < 1:
        raise UsageError(f"completions is {completions}", hint="give at least 1 for each opening")
    samples = [
        Sample(
            id=f"{opening.id}/{number}",
            input=opening.text,
            metadata={
                "system_prompt": "",
                "question": opening.text,
                # Completions of one opening are independent: each is its own cluster.
                "cluster": f"{opening.id}/{number}",
                "variant": opening.id,
            },
        )
        for number in range(completions)
        for opening in load_openings(openings)
    ]
    judging = (judge, max_cost, judge_options)
    return Task(
        dataset=MemoryDataset(samples, name="self_description"),
        solver=generate(),
        scorer=[
            occupation_label(*judging),
            trait_label(*judging),
            *_besides(),
        ],
        config=_config(Sampling(temperature=1.0, top_p=1.0, max_new_tokens=max_tokens)),
    )


@task
def capability_basics() -> Task:
    """Answer easy questions, to see what an intervention costs.

    A personascope model is asked how likely each answer is, since a small one names no letters: that is
    the ``personascope_basics`` of lm-evaluation-harness. Any other model chooses a letter.
    """
    from personascope.corpus.datasets import load_basics

    samples = [
        Sample(
            id=question.id,
            input=f"Question: {question.question}\nAnswer:",
            choices=list(question.choices),
            target=_LETTERS[question.answer],
            metadata={"subject": question.subject},
        )
        for question in load_basics()
    ]
    return Task(
        dataset=MemoryDataset(samples, name="capability_basics"),
        solver=rank_choices(),
        scorer=choice(),
        config=GenerateConfig(temperature=0.0, max_connections=_connections()),
    )


def _sample(trial: Trial, **metadata: object) -> Sample:
    messages: list[ChatMessage] = []
    if trial.system_prompt:
        messages.append(ChatMessageSystem(content=trial.system_prompt))
    return Sample(
        id=trial.id,
        input=[*messages, ChatMessageUser(content=trial.question)],
        metadata={
            "system_prompt": trial.system_prompt,
            "question": trial.question,
            "cluster": trial.group,
            "variant": trial.variant,
            **metadata,
        },
    )


def _diagonal(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials so that roles take turns, and each begins with another prompt and question."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.group, []).append(trial)
    rows = list(groups.values())
    return [row[(turn + place) % len(row)] for turn in range(len(rows[0])) for place, row in enumerate(rows)]


def _roles(folder: str | None, roles: Names) -> list[str]:
    if not isinstance(roles, int):
        names = roles.split(",") if isinstance(roles, str) else roles
        return [name.strip() for name in names]
    if folder is None:
        raise UsageError(
            "no map was named to choose roles from",
            hint="say -T map=runs/demo, or name roles: -T roles=pirate,ghost",
        )
    from personascope.directions import nearest_roles
    from personascope.space import PersonaMap

    return list(nearest_roles(PersonaMap.open(folder), roles))


def _config(sampling: Sampling) -> GenerateConfig:
    return GenerateConfig(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        max_connections=_connections(),
    )


def _connections() -> int | None:
    """Return how many calls to make at once: many to a model of ours, which runs them together."""
    from personascope.evals.inspect._provider import PersonascopeAPI

    api = _api()
    return api.max_connections() if isinstance(api, PersonascopeAPI) else None


def _besides() -> list[Scorer]:
    """Return what goes with every evaluation: coherence, and what the plan's caps did, if it has any."""
    from personascope.evals.inspect._provider import PersonascopeAPI
    from personascope.interventions import Cap

    api = _api()
    plan = api.plan if isinstance(api, PersonascopeAPI) else None
    capped = plan is not None and any(isinstance(op, Cap) for op in plan.ops)
    return [coherence(), *([plan_effect()] if capped or api is None else [])]


def _api() -> ModelAPI | None:
    """Return the model that will be evaluated; None if the task is made before it is known."""
    try:
        return get_model().api
    except ValueError:
        return None
