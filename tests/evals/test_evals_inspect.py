from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("inspect_ai", reason="the extra evals is not installed")

from inspect_ai import Task, eval
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import (
    Model,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_case import WIDTH, api, cap, models_on_disk, models_opened, push  # noqa: F401 (fixtures)

from helpers.scripted_server import completion as reply
from helpers.scripted_server import error as failure
from helpers.scripted_server import serving
from personascope.engines import Completion, Request, TransformersEngine
from personascope.errors import UsageError
from personascope.evals.harness import capability
from personascope.evals.inspect._registry import (
    capability_basics,
    persona_jailbreak,
    role_susceptibility,
    self_description,
)
from personascope.space import (
    MapMeta,
    MapModel,
    PersonaMap,
    Quantiles,
    build_space,
    projection_quantiles,
)
from space.space_sums import PlantedSums


def judged(label: str) -> Callable[[int, dict[str, Any]], Any]:
    """Give a label, but to every third item none."""

    def script(_number: int, body: dict[str, Any]) -> Any:
        asked = json.dumps(body["messages"])
        if "Where do you come from" in asked or "coworker" in asked or "I exist" in asked:
            return failure(400, "cannot say")
        labels = body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
        return reply(json.dumps({"reason": "clear", "label": label if label in labels else labels[0]}))

    return script


def evaluate(task: Task, model: Model, tmp_path: Path, **options: Any) -> EvalLog:
    (log,) = eval(task, model=model, display="none", log_dir=str(tmp_path / "logs"), **options)
    assert log.status == "success", log.error
    return log


def means(log: EvalLog, scorer: str) -> dict[str, float]:
    assert log.results is not None
    return {one.name: one.metrics["mean"].value for one in log.results.scores if one.scorer == scorer}


def test_roles_are_asked_and_what_has_no_label_is_seen(
    folder: Path, opened: Callable[..., Model], tmp_path: Path
) -> None:
    with serving(judged("human")) as server:
        task = role_susceptibility(roles="pirate,ghost", judge=f"openai:m@{server.url}", max_tokens=8)
        log = evaluate(task, opened(plan=str(folder / "cap")), tmp_path)
    assert log.samples is not None
    assert len(log.samples) == 2 * 4 * 5
    shares = means(log, "role_label")
    # Of the four questions for this rubric one is not answered by the judge.
    assert shares["unscored"] == 0.25
    assert shares["human"] == 1.0
    assert shares["assistant"] == 0.0
    assert log.results is not None
    counted = {one.name: one for one in log.results.scores if one.scorer == "role_label"}
    assert (counted["human"].scored_samples, counted["human"].unscored_samples) == (24, 8)
    assert means(log, "role_playing_label")["yes"] == 1.0
    assert 0 < means(log, "plan_effect")["firing_share"] <= 1
    health = means(log, "coherence")
    assert 0 <= health["incoherent"] <= 1
    assert health["perplexity"] > 1
    for sample in log.samples:
        assert sample.scores is not None
        plays = sample.id.endswith("/role_play") if isinstance(sample.id, str) else None
        assert ("role_playing_label" in sample.scores) == plays
        assert ("role_label" in sample.scores) != plays
        assert sample.output.metadata is not None
        assert sample.output.metadata["plan_digest"] == cap().digest
        if str(sample.id).endswith("/origin"):
            unscored = sample.scores["role_label"]
            assert unscored.reason == "grader_failed"
            assert "cannot say" in (unscored.explanation or "")
            assert isinstance(unscored.value, dict)
            assert math.isnan(float(unscored.value["human"]))  # pyright: ignore[reportArgumentType]


def test_any_beginning_of_the_samples_is_balanced() -> None:
    samples = list(role_susceptibility(roles=["pirate", "ghost", "poet", "judge"], judge="rules").dataset)
    assert len({sample.id for sample in samples}) == len(samples) == 4 * 4 * 5
    beginning = [str(sample.id).split("/") for sample in samples[:4]]
    assert [len({parts[place] for parts in beginning}) for place in (0, 2)] == [4, 4]
    with pytest.raises(UsageError, match="no map was named"):
        role_susceptibility()
    with pytest.raises(UsageError, match="has no role 'pirat'"):
        role_susceptibility(roles="pirat")
    with pytest.raises(UsageError, match="there is no judge"):
        role_susceptibility(roles="pirate", judge="rulez")


def save_map(folder: Path, model: Model | None = None) -> PersonaMap:
    """Save a map of the model, or of another one of its shape."""
    sums = PlantedSums(n_roles=6, n_layers=4, d=WIDTH)
    sums.roles = ("bard", "ghost", "judge", "pirate", "poet", "scholar")
    space = build_space(sums, min_fully=4, min_somewhat=4, n_boot=10, n_splits=4)
    draws = [np.random.default_rng(0).normal(size=(5, 4, WIDTH)) for _ in range(3)]
    quantiles = Quantiles(projection_quantiles(space.axis, draws), projection_quantiles(space.axis, draws))
    about = ("other/model", "1", "float32", 4, WIDTH, "c4a7")
    if model is not None:
        info = api(model).info
        about = (
            info.model_id,
            info.model_revision,
            info.dtype,
            info.n_layers,
            info.d_model,
            info.chat_digest,
        )
    meta = MapMeta(
        model=MapModel(*about),
        corpus_digest="c0",
        versions={},
        command="",
        response_norms=np.ones(4),
        quantiles=quantiles,
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)


def test_the_roles_are_those_of_the_model_s_own_map(opened: Callable[..., Model], tmp_path: Path) -> None:
    model = opened()
    found = save_map(tmp_path / "run" / "map", model)
    layer = found.middle_layer
    along = found.role_vectors(layer) @ found.unit_axis(layer)
    nearest = {found.roles[index] for index in np.argsort(-along)[:2]}
    with serving(judged("human")) as server:
        task = role_susceptibility(
            map=str(tmp_path / "run"), roles=2, prompts=1, judge=f"openai:m@{server.url}", max_tokens=4
        )
        log = evaluate(task, model, tmp_path, limit=4)
        assert {str(sample.id).split("/")[0] for sample in log.samples or []} == nearest
        save_map(tmp_path / "other")
        task = role_susceptibility(map=str(tmp_path / "other"), roles=2, judge=f"openai:m@{server.url}")
        (log,) = eval(task, model=model, display="none", log_dir=str(tmp_path / "logs"), limit=1)
    assert log.status == "error"
    assert log.error is not None
    assert "is of the model" in log.error.message


def test_jailbreaks_with_and_without_a_persona(opened: Callable[..., Model], tmp_path: Path) -> None:
    with serving(judged("enough")) as server:
        judge = f"openai:m@{server.url}"
        log = evaluate(persona_jailbreak(items=6, judge=judge, max_tokens=6), opened(), tmp_path)
        plain = persona_jailbreak(items=6, persona=False, judge=judge)
    shares = means(log, "jailbreak_label")
    assert shares["enough"] == shares["harmful"] == 1.0
    assert 0 < shares["unscored"] < 1
    assert all(sample.metadata["system_prompt"] for sample in log.samples or [])
    assert not any(sample.metadata["system_prompt"] for sample in plain.dataset if sample.metadata)
    assert {s.metadata["question"] for s in plain.dataset if s.metadata} == {
        s.metadata["question"] for s in log.samples or []
    }


def test_the_offline_judge_gives_no_harmful_share_without_its_error_rate(
    opened: Callable[..., Model], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = persona_jailbreak(items=4, judge="rules", max_tokens=6)
    assert "in its held-out half it found 0 of the 4 that readers did" in caplog.text
    shares = means(evaluate(task, opened(), tmp_path), "jailbreak_label")
    assert "harmful" not in shares
    assert list(shares)[:2] == ["harmful_offline", "missed_offline"]
    assert shares["missed_offline"] == 1.0


def test_answers_that_the_offline_judge_labelled_in_a_chain_have_no_harm(
    opened: Callable[..., Model], tmp_path: Path
) -> None:
    with serving(lambda n, _: failure(400, "content filter") if n % 2 else _enough()) as server:
        judge = f"openai:m@{server.url} then rules"
        task = persona_jailbreak(items=6, judge=judge, judge_options={"concurrency": 1}, max_tokens=6)
        log = evaluate(task, opened(), tmp_path)
    scores = [sample.scores["jailbreak_label"] for sample in log.samples or [] if sample.scores]
    by = {str(score.metadata and score.metadata["judged_by"]).split(":")[0] for score in scores}
    assert by == {"openai", "rules"}
    for score in scores:
        assert isinstance(score.value, dict) and score.metadata is not None
        offline = score.metadata["judged_by"] == "rules"
        assert math.isnan(float(score.value["harmful"])) == offline  # pyright: ignore[reportArgumentType]
    assert means(log, "jailbreak_label")["harmful"] == 1.0


def _enough() -> Any:
    return reply(json.dumps({"reason": "clear", "label": "enough"}))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"judge": "nobody"}, "no judge 'nobody'"),
        ({"judge": "none"}, "labels nothing"),
        ({"judge": "rules", "max_cost": 1.0}, "takes no option max_cost"),
        ({"judge": "openai:m@http://h/v1", "max_cost": 1.0}, "prices are not known"),
        (
            {"judge": "openai:m@http://h/v1", "judge_options": {"headers": {"api-key": "NO_SUCH_KEY"}}},
            "not set",
        ),
    ],
)
def test_a_judge_that_cannot_work_is_refused_before_a_task_runs(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        persona_jailbreak(items=2, **options)


def test_a_base_model_describes_itself(opened: Callable[..., Model], tmp_path: Path) -> None:
    with serving(judged("arts_and_writing")) as server:
        task = self_description(completions=2, judge=f"openai:m@{server.url}", max_tokens=5)
        log = evaluate(task, opened("base"), tmp_path)
        assert all("<<completion" in json.dumps(body) for body in server.bodies)
    assert len(log.samples or []) == 10
    assert means(log, "occupation_label")["arts_and_writing"] == 1.0
    assert means(log, "occupation_label")["unscored"] == pytest.approx(0.2)
    assert means(log, "trait_label")["helpful_and_caring"] == 1.0
    texts = {sample.id: sample.output.completion for sample in log.samples or []}
    assert texts["job/0"] != texts["job/1"]


def test_basics_agree_with_the_harness(folder: Path, opened: Callable[..., Model], tmp_path: Path) -> None:
    model = opened(plan=str(folder / "push"))
    log = evaluate(capability_basics(), model, tmp_path, limit=24)
    engine = api(model)._shared.engine
    (task,) = capability(engine, push(), ["personascope_basics"], limit=24, apply_chat_template=False).tasks
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == pytest.approx(task.headline.value)
    right = [sample.scores["choice"].value == "C" for sample in log.samples or [] if sample.scores]
    assert right == [bool(value) for value in task.headline.per_document.values()]
    assert all(
        s.output.metadata["plan_digest"] == push().digest for s in log.samples or [] if s.output.metadata
    )


def test_another_model_chooses_a_letter(tmp_path: Path) -> None:
    said = ModelOutput.from_content("mockllm", "ANSWER: A")
    said.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    model = get_model("mockllm/model", custom_outputs=[said.model_copy(deep=True) for _ in range(4)])
    log = evaluate(capability_basics(), model, tmp_path, limit=4)
    right = [sample.scores["choice"].value == "C" for sample in log.samples or [] if sample.scores]
    assert right == [sample.target == "A" for sample in log.samples or []]
    assert 0 < sum(right) < 4


def test_inspects_own_command_line_runs_it(
    folder: Path, opened: Callable[..., Model], tmp_path: Path
) -> None:
    assert "personascope" in {one.name for one in entry_points(group="inspect_ai")}, "reinstall the package"
    save_map(tmp_path / "map", opened())
    with serving(judged("human")) as server:
        command = [sys.executable, "-m", "inspect_ai", "eval", "personascope/role_susceptibility"]
        command += ["--model", f"personascope/{folder / 'model'}", "-M", f"plan={folder / 'cap'}"]
        command += [
            "-M",
            "dtype=float32",
            "-M",
            "max_batch=8",
            "-T",
            f"map={tmp_path / 'map'}",
            "-T",
            "roles=3",
        ]
        command += ["-T", f"judge=openai:m@{server.url}", "--limit", "10", "--display", "plain"]
        command += ["--max-tokens", "5", "--log-dir", str(tmp_path / "logs")]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "firing_share" in done.stdout
    (written,) = (tmp_path / "logs").iterdir()
    log = read_eval_log(str(written))
    assert log.status == "success"
    assert log.eval.model == f"personascope/{folder / 'model'}"
    assert len(log.samples or []) == 10
    for sample in log.samples or []:
        assert sample.output.metadata is not None
        assert sample.output.metadata["plan_digest"] == cap().digest
        assert sample.output.usage is not None
        assert sample.output.usage.output_tokens <= 5


def test_a_crash_of_the_engine_is_the_sample_s_error(
    opened: Callable[..., Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run = opened(plan=None), TransformersEngine.run

    def forgetful(self: TransformersEngine, requests: Iterable[Request]) -> Iterator[Completion]:
        for done in run(self, requests):
            yield replace(done, plan_digest="f" * 64)

    monkeypatch.setattr(TransformersEngine, "run", forgetful)
    with serving(judged("human")) as server:
        task = role_susceptibility(roles="pirate", judge=f"openai:m@{server.url}")
        (log,) = eval(task, model=model, display="none", log_dir=str(tmp_path / "logs"), limit=1)
    assert log.status == "error"
    assert log.error is not None
    assert "the engine applied the plan ffffffffffff" in log.error.message
