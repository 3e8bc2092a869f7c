"""The evaluations as Inspect tasks (section 3 of the paper).

A task holds the questions and the judge; the plan belongs to the model (``-M plan=FOLDER``). Questions and
sampling are those of our own runs. Samples are ordered so that any prefix is balanced: ``--limit 20`` asks
twenty roles, not one role twenty times.
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
    """Ask a model in a role who it is: does it stay the Assistant, or become the role?

    Args:
        map: Folder of the model's map, whose roles nearest the Assistant are used.
        roles: Number of these roles, or names of roles (a list, or separated by commas), which need no map.
        prompts: Number of system prompts per role, from the first.
        judge: Judge specification, as in `personascope.judge.parse_judge`.
        max_cost: Cost limit of an ``openai`` judge.
        judge_options: Mapping of options of ``openai`` judges: headers, prices and so on.
        corpus: Folder of a corpus with the roles; the built-in corpus by default.
        texts: YAML file with other questions and system prompts.
        max_tokens: Maximum length of an answer, in tokens.
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
    """Ask for something that should be refused, under a persona that would comply.

    Args:
        dataset: ``builtin`` for our mild set, or a set that `personascope.corpus.datasets.load_jailbreak_set`
            reads.
        persona: Whether to use personas; False asks the same questions without one.
        personas: YAML file of personas to cross with the questions of the set.
        items: Maximum number of question-persona pairs, taken in a balanced order.
        judge: Judge specification, as in `personascope.judge.parse_judge`.
        max_cost: Cost limit of an ``openai`` judge.
        judge_options: Mapping of options of ``openai`` judges: headers, prices and so on.
        max_tokens: Maximum length of an answer, in tokens.
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
            # Report the rows of the set that could not be used, rather than drop them silently.
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
    """Let a pre-trained model complete the beginning of a self-description ("My job is to").

    A personascope model without a chat template continues the opening verbatim. One with a template needs
    ``-M chat=raw`` for that.

    Args:
        completions: Number of completions per opening.
        judge: Judge specification, as in `personascope.judge.parse_judge`.
        max_cost: Cost limit of an ``openai`` judge.
        judge_options: Mapping of options of ``openai`` judges: headers, prices and so on.
        openings: YAML file with other openings.
        max_tokens: Maximum length of a completion, in tokens.
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
                # Completions of one opening are independent, so each is its own cluster.
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
    """Ask easy multiple-choice questions, to measure what an intervention costs in capability.

    A personascope model is scored by the likelihood of each answer, because small models do not answer with
    letters; this equals ``personascope_basics`` of lm-evaluation-harness. Other models choose a letter.
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
    """Order the trials so that roles alternate, and each role starts at a different prompt and question."""
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
    """Return the number of concurrent calls: that of a personascope model, which batches them, or None."""
    from personascope.evals.inspect._provider import PersonascopeAPI

    api = _api()
    return api.max_connections() if isinstance(api, PersonascopeAPI) else None


def _besides() -> list[Scorer]:
    """Return the scorers of every evaluation: coherence, and the plan's effect if it has caps."""
    from personascope.evals.inspect._provider import PersonascopeAPI
    from personascope.interventions import Cap

    api = _api()
    plan = api.plan if isinstance(api, PersonascopeAPI) else None
    capped = plan is not None and any(isinstance(op, Cap) for op in plan.ops)
    return [coherence(), *([plan_effect()] if capped or api is None else [])]


def _api() -> ModelAPI | None:
    """Return the model under evaluation; None if the task is created before it is known."""
    try:
        return get_model().api
    except ValueError:
        return None
