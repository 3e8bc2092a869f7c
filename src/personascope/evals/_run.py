"""Run an evaluation: every trial under every condition; commit each condition when it is complete.

A run folder holds one unit per condition. The same call resumes an interrupted run: committed conditions are
not generated again, and unlabelled responses are only judged again. Labels of another judge, or of another
wording of a rubric, are replaced. Labels of two judges never mix in one table, unless the second judge only
labels what the first could not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

import numpy as np
import pyarrow as pa

from personascope.engines import Completion, Engine, Request, Scored, request_seed
from personascope.errors import StoreError, UsageError
from personascope.evals._conditions import Condition
from personascope.evals._perplexity import perplexities
from personascope.evals._rows import UnitMeta, control_options, controls_there, judges_of
from personascope.evals._trials import Trial, Trials
from personascope.judge import Judge, JudgeItem, JudgeStats, Verdict, continues
from personascope.runs import Job, ProgressCallback, chat_notes, collect, dated, shown
from personascope.store import RunFolder

WAVE = 512
"""Minimum number of responses generated together, so that conditions with few trials share a batch."""

PERPLEXITIES = 128
"""Size of the random sample of a condition's responses whose perplexity is computed."""

SCHEMA = pa.schema(
    [
        ("trial", pa.string()),
        ("group", pa.string()),
        ("variant", pa.string()),
        ("system_prompt", pa.dictionary(pa.int32(), pa.string())),
        ("question", pa.dictionary(pa.int32(), pa.string())),
        ("text", pa.string()),
        ("token_count", pa.int32()),
        ("finish_reason", pa.string()),
        ("status", pa.string()),
        ("labels", pa.map_(pa.string(), pa.string())),
        ("reasons", pa.map_(pa.string(), pa.string())),
        ("judge", pa.string()),
        ("judges", pa.map_(pa.string(), pa.string())),
        ("perplexity", pa.float32()),
        ("plan", pa.string()),
        ("plan_tokens", pa.int32()),
        ("capped_tokens", pa.int32()),
        ("max_moved", pa.float32()),
    ]
)
"""Columns of rollouts.parquet. ``labels`` omits missing labels, and ``status`` is then "unscored".
``judges`` maps each rubric to the judge of its label; rows of earlier versions only have one ``judge``."""


@dataclass(frozen=True, slots=True)
class EvalRun:
    """Summary of a run folder after a call.

    Attributes:
        path: Path of the run folder.
        responses: Number of responses in the run.
        unscored: Number of responses with missing labels; the same call judges them again.
        judge: Statistics of the judge's calls; None without a judge.
    """

    path: Path
    responses: int
    unscored: int
    judge: JudgeStats | None

    @property
    def partial(self) -> bool:
        """Whether labels are missing."""
        return self.unscored > 0


def run_evaluation(
    engine: Engine,
    trials: Trials,
    conditions: Sequence[Condition],
    *,
    out: Path | str,
    judge: Judge | None,
    seed: int = 0,
    progress: ProgressCallback | bool = True,
    restart: bool = False,
    command: str = "",
    max_pending: int = 256,
) -> EvalRun:
    """Generate every trial under every condition, compute perplexities, and label the responses.

    Args:
        engine: Engine of the model.
        trials: Trials of the evaluation.
        conditions: Conditions to run; their names must differ.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        judge: Judge that labels the responses; None leaves them unlabelled (the run is partial).
        seed: Random seed.
        progress: Whether to show a progress bar, or a callback to call after each response instead.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.
        max_pending: Maximum number of responses judged concurrently.

    Raises:
        UsageError: If two conditions share a name.
        EngineError: If the engine fails, or a response comes back without its plan.
        StoreError: If the folder holds another run or cannot be written.
        JudgeError: If the judge cannot be used at all. A single failed response stays unscored.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    names = [condition.name for condition in conditions]
    if len(set(names)) < len(names):
        raise UsageError(f"two conditions share a name among {', '.join(names)}", hint="give each its own")
    identity = {
        "evaluation": trials.name,
        "trials": trials.digest,
        "conditions": [[c.name, c.plan.digest if c.plan else None] for c in conditions],
        "model": engine.info.identity,
        "seed": seed,
    }
    notes = {
        "command": command,
        "source": trials.source,
        "problems": list(trials.problems),
        "conditions": [
            {
                "name": c.name,
                "kind": c.kind,
                "strength": c.strength,
                "draw": c.random_index,
                "of": list(c.control_of),
                "control": c.control,
                "plan": c.plan.explain() if c.plan else None,
            }
            for c in conditions
        ],
        **chat_notes(engine.info),
    }
    job = _EvaluationJob(trials, conditions, seed, None if judge is None else judge.name)
    with (
        shown(progress) as tell,
        _opened(out, identity, notes, conditions, restart=restart) as folder,
    ):
        got = collect(engine, job, folder, judge, progress=tell, max_pending=max_pending)
    return EvalRun(out, job.total, got.unscored, got.judge)


def _opened(
    out: Path,
    identity: Mapping[str, Any],
    notes: Mapping[str, Any],
    conditions: Sequence[Condition],
    *,
    restart: bool,
) -> RunFolder:
    """Open the run folder; where only its controls are others, say by which options it goes on."""
    try:
        return RunFolder.open(out, identity, notes, restart=restart, unit=UnitMeta)
    except StoreError as error:
        there = controls_there(out)
        asked = control_options((c.control, c.random_index) for c in conditions)
        if there is None or there == asked:
            raise
        raise StoreError(
            error.message, hint=f"it was made with {there}, and goes on with that; or {error.hint}"
        ) from error


class EvalRow(TypedDict):
    """A row of rollouts.parquet: the response of one trial under one condition, with its labels."""

    trial: str
    group: str
    variant: str
    system_prompt: str
    question: str
    text: str
    token_count: int
    finish_reason: str
    status: Literal["scored", "unscored"]
    labels: dict[str, str]
    reasons: dict[str, str]
    judge: str | None
    judges: dict[str, str]
    perplexity: float | None
    plan: str | None
    plan_tokens: int | None
    capped_tokens: int | None
    max_moved: float | None


@dataclass(slots=True, eq=False)
class _Unit:
    """Work unit of one condition.

    Attributes:
        index: Index of the condition.
        completions: Trial id -> completion.
        rows: Trial id -> row.
        labels_before: Number of labels already committed; None for an uncommitted unit.
    """

    index: int
    completions: dict[str, Completion] = field(default_factory=dict[str, Completion])
    rows: dict[str, EvalRow] = field(default_factory=dict[str, EvalRow])
    labels_before: int | None = None

    @property
    def n_labels(self) -> int:
        return sum(len(row["labels"]) for row in self.rows.values())


class _EvaluationJob(Job[_Unit]):
    completing = "perplexity"

    def __init__(self, trials: Trials, conditions: Sequence[Condition], seed: int, judge: str | None) -> None:
        self.trials, self.conditions, self.seed, self.judge = trials, conditions, seed, judge
        self.wave = WAVE
        self.by_id = {trial.id: trial for trial in trials.items}
        self.total = len(trials.items) * len(conditions)

    def done(self, folder: RunFolder) -> int:
        return len(folder.units) * len(self.trials.items)

    def unscored(self, folder: RunFolder) -> int:
        return sum(unit.meta["unscored"] for unit in folder.units.values())

    def todo(self, folder: RunFolder) -> Iterator[_Unit]:
        return (_Unit(index) for index in range(len(self.conditions)) if index not in folder.units)

    def name(self, unit: _Unit) -> str:
        return self.conditions[unit.index].name

    def requests(self, unit: _Unit) -> Sequence[Request]:
        condition = self.conditions[unit.index]
        return [
            # The id, which seeds the sampling, has the condition's name and not its index: a condition is
            # then
            # sampled alike in any sweep.
            Request(
                f"{condition.name}|{trial.id}",
                trial.prompt,
                self.trials.sampling,
                plan=condition.plan,
                seed=self.seed,
            )
            for trial in self.trials.items
            if trial.id not in unit.completions
        ]

    def take(self, unit: _Unit, result: Completion | Scored) -> Iterable[JudgeItem]:
        assert isinstance(result, Completion)
        trial = self.by_id[result.id.removeprefix(f"{self.name(unit)}|")]
        unit.completions[trial.id] = result
        stats = result.cap_stats
        unit.rows[trial.id] = {
            "trial": trial.id,
            "group": trial.group,
            "variant": trial.variant,
            "system_prompt": trial.system_prompt,
            "question": trial.question,
            "text": result.text,
            "token_count": len(result.token_ids),
            "finish_reason": result.finish_reason,
            "status": "unscored",
            "labels": {},
            "reasons": {},
            "judge": None,
            "judges": {},
            "perplexity": None,
            "plan": result.plan_digest,
            "plan_tokens": None if stats is None else stats.tokens,
            "capped_tokens": None if stats is None else stats.capped_tokens,
            "max_moved": None if stats is None else stats.max_moved,
        }
        return self._items(unit, trial)

    def complete(self, engine: Engine, units: Sequence[_Unit]) -> None:
        for unit in units:
            rng = np.random.default_rng(request_seed(self.seed, f"perplexity {self.name(unit)}"))
            said = [trial for trial in self.trials.items if unit.completions[trial.id].token_ids]
            chosen = rng.choice(len(said), min(PERPLEXITIES, len(said)), replace=False) if said else []
            sample = [said[int(place)] for place in chosen]
            found = perplexities(
                engine, [(trial.id, trial.prompt, unit.completions[trial.id].token_ids) for trial in sample]
            )
            for id, value in found.items():
                unit.rows[id]["perplexity"] = value

    def judge_again(self, folder: RunFolder) -> Iterator[tuple[_Unit, Sequence[JudgeItem]]]:
        for index, committed in list(folder.units.items()):
            rubrics, judge = committed.meta["rubrics"], committed.meta.get("judge")
            stale = bool(rubrics) and not (rubrics == self.trials.rubrics and continues(self.judge, judge))
            if not (committed.meta["unscored"] or stale):
                continue
            rows = cast("list[EvalRow]", folder.rows(index).to_pylist())
            unit = _Unit(index, rows={row["trial"]: row for row in rows}, labels_before=0)
            for row in rows:
                row["labels"] = {} if stale else dict(row["labels"] or ())
                row["reasons"] = {} if stale else dict(row["reasons"] or ())
                row["judges"] = {} if stale else judges_of(row)
            unit.labels_before = unit.n_labels
            yield unit, [item for id in unit.rows for item in self._items(unit, self.by_id[id])]

    def _items(self, unit: _Unit, trial: Trial) -> list[JudgeItem]:
        row = unit.rows[trial.id]
        return [
            JudgeItem(
                id=f"{unit.index}/{rubric.name}/{trial.id}",
                role=row["group"],
                description="",
                system_prompt=row["system_prompt"],
                question=row["question"],
                response=row["text"],
                rubric=rubric,
            )
            for rubric in trial.rubrics
            if rubric.name not in row["labels"]
        ]

    def verdict(self, unit: _Unit, verdict: Verdict) -> None:
        _, rubric, trial = verdict.id.split("/", 2)
        row = unit.rows[trial]
        row["reasons"][rubric] = verdict.reason
        row["judge"] = verdict.judge
        if verdict.label is not None:
            row["labels"][rubric] = verdict.label
            row["judges"][rubric] = verdict.judge

    def commit(self, folder: RunFolder, unit: _Unit) -> None:
        if unit.labels_before is not None and unit.n_labels <= unit.labels_before:
            # If the judge returned no new label, keep the old ones.
            return
        rows = [unit.rows[trial.id] for trial in self.trials.items]
        for row in rows:
            needed = {rubric.name for rubric in self.by_id[row["trial"]].rubrics}
            row["status"] = "scored" if needed <= row["labels"].keys() else "unscored"
        condition = self.conditions[unit.index]
        meta = {
            "condition": condition.name,
            "unscored": sum(row["status"] == "unscored" for row in rows),
            "responses": len(rows),
            "plan": None if condition.plan is None else condition.plan.digest,
            "rubrics": self.trials.rubrics if unit.n_labels else {},
            "judge": self.judge if unit.n_labels else None,
        }
        packed = [
            {**row, **{name: list(row[name].items()) for name in ("labels", "reasons", "judges")}}
            for row in rows
        ]
        folder.commit(unit.index, rows=pa.Table.from_pylist(packed, schema=SCHEMA), meta=meta, parts={})
