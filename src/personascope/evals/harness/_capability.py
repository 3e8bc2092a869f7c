"""Capability evaluation: tasks of lm-evaluation-harness under a plan (section 5 of the paper)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lm_eval.evaluator import simple_evaluate
from lm_eval.tasks import TaskManager

from personascope.engines import Engine
from personascope.errors import ChatError, EvaluationError, PersonascopeError, UsageError
from personascope.evals.harness._lm import PersonascopeLM
from personascope.evals.harness._register import task_paths
from personascope.interventions import Plan
from personascope.runs import Meter, WorkStep

log = logging.getLogger(__name__)

DEFAULT_TASKS = ("ifeval", "mmlu_pro", "gsm8k", "eq_bench")
"""The paper's capability tasks; their data come from the Hugging Face hub."""

# Score that the paper reports for tasks with several. Without few-shot examples models do not write
# GSM8K's "#### 7", so the flexible filter (the last number) is used.
_HEADLINES = {
    "ifeval": ("prompt_level_strict_acc", "none"),
    "mmlu_pro": ("exact_match", "custom-extract"),
    "gsm8k": ("exact_match", "flexible-extract"),
    "eq_bench": ("eqbench", "none"),
}
_USUAL = ("acc", "exact_match")


@dataclass(frozen=True, slots=True)
class Metric:
    """One score of a task.

    Attributes:
        name: The harness's name of the score, such as "acc".
        filter: The harness's filter that extracts the answer from the response; "none" for the whole
            response.
        value: The harness's aggregate score.
        per_document: Document -> score, for paired tests. The keys are the same under every plan. Empty if
            some document has no numeric score.
        higher_is_better: Whether a higher value is better.
    """

    name: str
    filter: str
    value: float
    per_document: Mapping[str, float] = field(repr=False)
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class CapabilityTask:
    """Results of one task.

    Attributes:
        name: Name of the task or group.
        metrics: Scores of the task.
        headline: Score that tables show.
        documents: Number of documents.
        samples: Task name (each subtask for a group) -> the harness's record of every document.
    """

    name: str
    metrics: tuple[Metric, ...]
    headline: Metric
    documents: int
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Capability:
    """Results of all tasks under one plan.

    Attributes:
        model_id: Id of the model.
        plan_digest: Digest of the plan applied to every request; None without a plan.
        tasks: Results of the tasks that ran.
        failed: Task name -> why it could not be loaded or run.
        firing: Counts of tokens on which the plan acted and its caps fired (`Firing.summary`).
        settings: Values of ``limit``, ``num_fewshot``, ``apply_chat_template`` and ``seed``.
    """

    model_id: str
    plan_digest: str | None
    tasks: tuple[CapabilityTask, ...]
    failed: Mapping[str, str]
    firing: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def partial(self) -> bool:
        """Whether a task failed."""
        return bool(self.failed)

    def record(self) -> dict[str, Any]:
        """Return the results, without the samples, as JSON values."""
        return {
            "model_id": self.model_id,
            "plan_digest": self.plan_digest,
            "settings": dict(self.settings),
            "firing": dict(self.firing),
            "failed": dict(self.failed),
            "tasks": {
                task.name: {
                    "documents": task.documents,
                    "headline": f"{task.headline.name},{task.headline.filter}",
                    "metrics": {f"{metric.name},{metric.filter}": metric.value for metric in task.metrics},
                    "per_document": dict(task.headline.per_document),
                }
                for task in self.tasks
            },
        }


def capability(
    engine: Engine,
    plan: Plan | None = None,
    tasks: Sequence[str] = DEFAULT_TASKS,
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool | None = None,
    include_paths: Sequence[str] = (),
    seed: int = 0,
    **options: Any,
) -> Capability:
    """Run tasks of the harness, every request under the same plan.

    A task that cannot be loaded (for example without its data) or run (for example if it needs more tokens
    than the model's context) is listed in ``failed`` with the reason; the other tasks still run.

    Args:
        engine: Engine of the model.
        plan: Intervention to apply, or None.
        tasks: Names of tasks or groups: the harness's own, and ours (``personascope_basics``,
            ``personascope_sums``), which need no network.
        limit: Maximum number of documents per task.
        num_fewshot: Number of few-shot examples. None means 0 for the paper's tasks, as in the paper, and the
            task's own default for others.
        apply_chat_template: Whether to ask in the model's chat format; by default if it has one.
        include_paths: Folders with more tasks.
        seed: Random seed of the few-shot examples and the sampled responses. The harness also seeds
            ``random``, NumPy and Torch with it.
        options: Further keyword arguments of `PersonascopeLM`.

    Raises:
        UsageError: If no task is named.
        EvaluationError: If no task could be run.
        EngineError: If a request was not run under the plan.
    """
    names = list(dict.fromkeys(tasks))
    if not names:
        raise UsageError("no task is named", hint=f"name some, for example {', '.join(DEFAULT_TASKS)}")
    model = PersonascopeLM(engine, plan, seed=seed, **options)
    chat = bool(engine.info.chat_digest) if apply_chat_template is None else apply_chat_template
    finder = _Finder(task_paths(*include_paths))
    done: list[CapabilityTask] = []
    failed: dict[str, str] = {}
    for name in names:
        try:
            found = finder.load(name)
        except Exception as error:  # whatever a task's own code raises
            failed[name] = f"cannot be loaded: {_reason(error)}"
            continue
        try:
            done.append(_task(name, _evaluate(model, finder, name, found, chat, limit, num_fewshot, seed)))
        except (UsageError, EvaluationError, ChatError) as error:
            failed[name] = f"cannot be run: {error.message}"
        except PersonascopeError:
            raise
        except Exception as error:  # whatever a task's scoring raises
            log.exception("the task %s broke", name)
            failed[name] = f"broke: {_reason(error)}"
    if not done:
        raise EvaluationError(
            "none of the tasks could be run: " + "; ".join(f"{name} {why}" for name, why in failed.items()),
            hint="personascope_basics and personascope_sums need no network",
        )
    return Capability(
        model_id=engine.info.model_id,
        plan_digest=None if plan is None else plan.digest,
        tasks=tuple(done),
        failed=failed,
        firing=model.firing.summary(),
        settings={
            "limit": limit,
            "num_fewshot": num_fewshot,
            "apply_chat_template": chat,
            "seed": seed,
        },
    )


def estimate_capability(
    engine: Engine,
    conditions: int,
    tasks: Sequence[str] = DEFAULT_TASKS,
    *,
    limit: int | None = None,
    seed: int = 0,
    probe: int = 2,
) -> tuple[tuple[WorkStep, ...], dict[str, str]]:
    """Estimate `capability` under a number of conditions, from the first documents of each task.

    Tasks are loaded, and with them their data from the Hugging Face hub, which are needed to count documents.

    Args:
        engine: Engine of the model.
        conditions: Number of conditions.
        tasks: Names of tasks or groups.
        limit: Maximum number of documents per task.
        seed: Random seed.
        probe: Number of documents of each task to run, without a plan.

    Returns:
        A part of the work for each task, and task name -> why it could not be loaded or run.
    """
    chat = bool(engine.info.chat_digest)
    finder = _Finder(task_paths())
    steps: list[WorkStep] = []
    failed: dict[str, str] = {}
    for name in dict.fromkeys(tasks):
        meter = Meter(engine)
        model = PersonascopeLM(meter, seed=seed)
        few = probe if limit is None else min(probe, limit)
        try:
            found = finder.load(name)
            results = _evaluate(model, finder, name, found, chat, few, None, seed)
        except Exception as error:  # whatever a task's own code raises
            failed[name] = f"cannot be run: {_reason(error)}"
            continue
        counts = results["n-samples"].values()
        whole = sum(min(one["original"], limit or one["original"]) for one in counts)
        run = sum(one["effective"] for one in counts)
        steps.append(meter.step(name, scale=conditions * whole / max(run, 1)))
    return tuple(steps), failed


def _evaluate(
    model: PersonascopeLM,
    finder: _Finder,
    name: str,
    found: list[Any],
    chat: bool,
    limit: int | None,
    num_fewshot: int | None,
    seed: int,
) -> Mapping[str, Any]:
    results = simple_evaluate(
        model=model,
        tasks=found,
        task_manager=finder.manager(name),
        limit=limit,
        num_fewshot=0 if num_fewshot is None and name in DEFAULT_TASKS else num_fewshot,
        apply_chat_template=chat,
        fewshot_as_multiturn=chat,
        log_samples=True,
        # Our own tables bootstrap intervals from the documents' scores.
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    assert results is not None
    return results


class _Finder:
    """Load tasks; index the harness's thousands of tasks only when one of them is requested."""

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        self._own = TaskManager(include_path=[*folders], include_defaults=False)
        self._all: TaskManager | None = None

    def manager(self, name: str) -> TaskManager:
        if name in self._own.all_tasks:
            return self._own
        if self._all is None:
            self._all = TaskManager(include_path=[*self._folders])
        return self._all

    def load(self, name: str) -> list[Any]:
        """Return a task, the tasks of a tag, or a group with its tasks."""
        found = self.manager(name).load([name])
        groups = found.get("groups", {})
        return [groups[name]] if name in groups else list(found["tasks"].values())


def _task(name: str, results: Mapping[str, Any]) -> CapabilityTask:
    samples: dict[str, list[dict[str, Any]]] = results["samples"]
    better: dict[str, Any] = {}
    scores: dict[tuple[str, str], dict[str, float]] = {}
    documents: set[str] = set()
    for task, rows in samples.items():
        better |= results["higher_is_better"].get(task, {})
        for row in rows:
            document = f"{task}/{row['doc_id']}"
            documents.add(document)
            for metric in row["metrics"]:
                value = _number(row[metric])
                per_document = scores.setdefault((metric, row["filter"]), {})
                if value is not None:
                    per_document[document] = value
    table = {**results.get("groups", {}), **results["results"]}
    parts = [name] if name in table else list(samples)
    metrics: list[Metric] = []
    for (metric, how), per_document in scores.items():
        # A tag, or a group without an aggregate of its own, gets the mean over its tasks.
        values = [table[part][f"{metric},{how}"] for part in parts if f"{metric},{how}" in table[part]]
        if not values and name in table:
            values = [table[part][f"{metric},{how}"] for part in samples if f"{metric},{how}" in table[part]]
        numbers = [value for value in map(_number, values) if value is not None]
        if numbers:
            kept = per_document if len(per_document) == len(documents) else {}
            metrics.append(
                Metric(metric, how, float(np.mean(numbers)), kept, better.get(metric) is not False)
            )
    if not metrics:
        raise EvaluationError(f"the task {name} gave no number", hint="choose a task with a numeric metric")
    return CapabilityTask(name, tuple(metrics), _headline(name, metrics), len(documents), samples)


def _headline(name: str, metrics: list[Metric]) -> Metric:
    wanted = _HEADLINES.get(name)
    for metric in metrics:
        if (metric.name, metric.filter) == wanted:
            return metric
    for usual in _USUAL:
        for metric in metrics:
            if metric.name == usual:
                return metric
    return metrics[0]


def _number(value: Any) -> float | None:
    if isinstance(value, bool | int | float | np.number):
        return float(value)
    # A document with several scores (IFEval's instructions) counts as their mean.
    if isinstance(value, list) and value and all(isinstance(part, bool | int | float) for part in value):
        return float(np.mean(value))
    return None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
