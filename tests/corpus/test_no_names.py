"""The ablation of the label takes out a role's name, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import no_names

from personascope.corpus import load_corpus


@pytest.mark.parametrize(
    ("prompt", "role", "group", "expected"),
    [
        ("You are an auditor.", "auditor", "function", "You are a person."),
        ("An Auditor answers.", "auditor", "function", "A person answers."),
        ("Auditors lie. Auditor, answer.", "auditor", "function", "People lie. Person, answer."),
        ("Speak with the echo's voice.", "echo", "abstraction", "Speak with the being's voice."),
        ("I am a coral reef, a coral-reef.", "coral_reef", "collective", "I am a being, a being."),
        ("The auditorium is for auditing.", "auditor", "function", "The auditorium is for auditing."),
    ],
)
def test_the_name_gives_way_to_a_noun(prompt: str, role: str, group: str, expected: str) -> None:
    assert no_names.without_name(prompt, role, group) == expected


def test_the_corpus_is_the_built_in_one_but_for_the_prompts(tmp_path: Path) -> None:
    no_names.write_corpus(tmp_path / "corpus")
    mine, theirs = load_corpus(tmp_path / "corpus"), load_corpus()
    assert [question.text for question in mine.questions] == [question.text for question in theirs.questions]
    assert mine.default_prompts == theirs.default_prompts
    changed = 0
    for one, other in zip(mine.roles, theirs.roles, strict=True):
        assert (one.name, one.group, one.description) == (other.name, other.group, other.description)
        for text, original in zip(one.prompts, other.prompts, strict=True):
            changed += text != original
            assert text == no_names.without_name(original, other.name, other.group)
            assert f" {other.name.replace('_', ' ')} " not in f" {text.lower()} "
    assert changed > 1000
