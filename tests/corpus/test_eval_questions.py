"""The capability tasks: sound questions, and lm-evaluation-harness running them from any folder."""

from __future__ import annotations

import re
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from personascope.corpus.datasets import load_basics, load_openings, load_sums
from personascope.corpus.datasets._questions import TASKS
from personascope.errors import CorpusError
from personascope.evals.harness import lm_eval_task_folder

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def test_the_basics_are_balanced() -> None:
    questions = load_basics()
    assert len({question.id for question in questions}) == 160
    assert len({question.question.lower() for question in questions}) == 160
    places = Counter((question.subject, question.answer) for question in questions)
    assert len(places) == 8 * 4 and set(places.values()) == {5}
    for question in questions:
        assert question.question.endswith("?"), question
        assert len({choice.lower() for choice in question.choices}) == 4, question
        assert all(choice == choice.strip() for choice in question.choices), question


def test_the_right_answer_is_not_told_by_its_length() -> None:
    for pick in (max, min):
        told: list[bool] = []
        for question in load_basics():
            lengths = [len(choice) for choice in question.choices]
            if lengths.count(pick(lengths)) == 1:
                told.append(lengths.index(pick(lengths)) == question.answer)
        assert len(told) > 60
        assert 0.12 < sum(told) / len(told) < 0.4, (pick, sum(told) / len(told))


def results(question: str) -> set[float]:
    words = re.findall(r"\d+|[a-z]+", question.lower())
    numbers = [
        int(word) if word.isdigit() else NUMBERS[word] for word in words if word.isdigit() or word in NUMBERS
    ]
    # A week has 7 days, a spider 8 legs: the question names both numbers, as all do.
    assert len(numbers) >= 2, question
    return {r for a, b in permutations(numbers, 2) for r in (a + b, a - b, a * b, a / b)}


def test_the_sums_come_out() -> None:
    sums = load_sums()
    assert Counter(question.split for question in sums) == {"test": 40, "example": 4}
    assert len({question.question for question in sums}) == 44
    for question in sums:
        assert question.answer in results(question.question), question
        assert bool(question.worked) == (question.split == "example")
        if question.worked:
            left, right = question.worked.split(" = ")
            assert eval(left) == int(right) == question.answer  # our own four sums


def test_the_openings_are_the_papers() -> None:
    openings = load_openings()
    assert [opening.text for opening in openings] == [
        "My job is to",
        "My purpose is to",
        "I exist to",
        "I would describe myself as",
        "People would say I am",
    ]
    assert len({opening.id for opening in openings}) == 5


def test_openings_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "openings.yaml"
    path.write_text(yaml.safe_dump({"openings": [{"id": "day", "text": "My day begins with "}]}))
    assert [(opening.id, opening.text) for opening in load_openings(path)] == [("day", "My day begins with")]
    path.write_text(yaml.safe_dump({"openings": ["My day"]}))
    with pytest.raises(CorpusError, match="openings"):
        load_openings(path)


def run_harness(right: bool) -> tuple[dict[str, Any], list[str]]:
    """Evaluate a model that knows every answer, or always misses it."""
    pytest.importorskip("lm_eval")
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    answers = {question.question: question.choices[question.answer] for question in load_basics()}
    totals = {question.question: question.answer for question in load_sums()}
    prompts: list[str] = []

    class Oracle(LM):
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            found: list[tuple[float, bool]] = []
            for request in requests:
                context, continuation = request.args
                question = context.removeprefix("Question: ").removesuffix("\nAnswer:")
                known = continuation == f" {answers[question]}"
                found.append((0.0 if known == right else -1000.0, known))
            return found

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise AssertionError(f"{len(requests)} requests of a kind that our tasks don't make")

        def generate_until(self, requests: list[Any]) -> list[str]:
            found: list[str] = []
            for request in requests:
                prompts.append(request.args[0])
                question = request.args[0].rsplit("Question: ", 1)[1].removesuffix("\nAnswer:")
                total = totals[question]
                found.append(f" 99 - 9 = {total:,}.0 pieces." if right else f" {total} + 1 = {total + 1}")
            return found

    manager = TaskManager(include_path=str(lm_eval_task_folder()), include_defaults=False)
    result = simple_evaluate(Oracle(), tasks=list(TASKS), task_manager=manager, bootstrap_iters=0)
    assert result is not None
    return result, prompts


def test_the_harness_runs_our_tasks_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result, prompts = run_harness(right=True)
    basics, sums = (result["results"][task] for task in TASKS)
    assert (basics["acc,none"], basics["acc_norm,none"], basics["sample_len"]) == (1.0, 1.0, 160)
    assert (sums["exact_match,last-number"], sums["sample_len"]) == (1.0, 40)
    examples = [f"{s.question}\nAnswer: {s.worked}\n\n" for s in load_sums() if s.split == "example"]
    for prompt in prompts:
        places = [prompt.index(example) for example in examples]
        assert places == sorted(places) and prompt.endswith("?\nAnswer:")
    result, _ = run_harness(right=False)
    basics, sums = (result["results"][task] for task in TASKS)
    assert (basics["acc,none"], sums["exact_match,last-number"]) == (0.0, 0.0)
