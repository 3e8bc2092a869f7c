"""Role susceptibility: good English for every role, and nothing of the mapping prompts in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from rapidfuzz import fuzz

from personascope.corpus import RoleEntry, load_corpus
from personascope.corpus.datasets import load_susceptibility
from personascope.corpus.datasets._susceptibility import (
    role_phrase,
    susceptibility_prompts,
    susceptibility_questions,
)
from personascope.errors import CorpusError

ROLES = load_corpus().roles


def role(name: str = "sailor", description: str = "Has crossed every sea twice.") -> RoleEntry:
    return RoleEntry(name, "sea", description, ("You are a sailor.",))


def form(**changes: Any) -> dict[str, Any]:
    return {
        "questions": [
            {"id": "who", "text": "Who?"},
            {"id": "play", "text": "Playing?", "asks_role_play": True},
        ],
        "templates": [{"id": "one", "text": "{role}: {description}", "without_description": "{role}!"}],
    } | changes


def dump(path: Path, value: object) -> Path:
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return path


def test_five_questions_and_only_the_last_asks_whether_a_role_is_played() -> None:
    questions = susceptibility_questions()
    assert [question.asks_role_play for question in questions] == [False] * 4 + [True]
    assert len({question.id for question in questions}) == len({question.text for question in questions}) == 5
    assert all(question.text.endswith("?") for question in questions)


def test_the_phrase_of_every_role_has_the_article_that_is_spoken() -> None:
    for entry in ROLES:
        article, _, rest = role_phrase(entry.name).partition(" ")
        assert rest and "_" not in rest, entry.name
        if article != "the":
            assert article == ("an" if rest[0] in "aeiou" else "a"), entry.name


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("coral_reef", "a coral reef"),
        ("devils_advocate", "a devil's advocate"),
        ("void", "the void"),
        ("wind", "the wind"),
        ("prey", "a prey animal"),
        ("eldritch", "an eldritch being"),
        ("historian", "a historian"),
        ("unicorn", "a unicorn"),
        ("usher", "an usher"),
        ("uninvited_guest", "an uninvited guest"),
        ("European", "a European"),
        ("utopian", "a utopian"),
        ("one_armed_bandit", "a one armed bandit"),
        ("heir", "an heir"),
        ("the_last_king", "the last king"),
        ("an_old_friend", "an old friend"),
    ],
)
def test_phrases(name: str, phrase: str) -> None:
    assert role_phrase(name) == phrase


def test_every_role_has_four_prompts_that_name_and_describe_it() -> None:
    for entry in ROLES:
        prompts = susceptibility_prompts(entry)
        assert len(set(prompts)) == 4
        phrase = role_phrase(entry.name)
        for prompt in prompts:
            assert phrase in prompt, (entry.name, prompt)
            assert entry.description in prompt, (entry.name, prompt)
            assert not set("{}_") & set(prompt) and "  " not in prompt and ".." not in prompt, prompt
            assert prompt[0].isupper() and prompt[-1] == ".", prompt


def test_the_prompts_are_not_those_of_the_map() -> None:
    for entry in ROLES:
        for prompt in susceptibility_prompts(entry):
            for mapped in entry.prompts:
                assert fuzz.ratio(prompt.lower(), mapped.lower()) < 70, (prompt, mapped)


def test_a_description_is_put_in_as_it_is() -> None:
    odd = role(description="Says {role} and {nothing}\n  at all")
    assert all("Says {role} and {nothing} at all." in prompt for prompt in susceptibility_prompts(odd))
    assert all(
        "Has it ended?" in prompt for prompt in susceptibility_prompts(role(description="Has it ended?"))
    )


def test_a_role_without_a_description_has_prompts_without_one() -> None:
    prompts = susceptibility_prompts(role(description=""))
    assert len(set(prompts)) == 4
    for prompt in prompts:
        assert "a sailor" in prompt and ":" not in prompt and "note" not in prompt and "card" not in prompt


def test_a_file_of_the_users(tmp_path: Path) -> None:
    path = dump(tmp_path / "mine.yaml", form(phrases={"sailor": "an old salt"}))
    mine = load_susceptibility(path)
    assert mine.prompts(role()) == ("An old salt: Has crossed every sea twice.",)
    assert mine.source == str(path)
    other = load_susceptibility(dump(tmp_path / "other.yaml", form()))
    assert len({mine.digest, other.digest, load_susceptibility().digest}) == 3
    assert other.digest == load_susceptibility(dump(tmp_path / "again.yaml", form())).digest


ONE = {"id": "one", "text": "{role}: {description}", "without_description": "{role}!"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"templates": [ONE | {"text": "You: {description}"}]}, "{role}"),
        ({"templates": [ONE | {"text": "{role} {description} {name}"}]}, "{name}"),
        ({"templates": [ONE | {"without_description": "{role} {description}"}]}, "without_description"),
        ({"templates": [ONE, ONE]}, "'one' occurs twice"),
        ({"questions": [{"id": "who", "text": "Who?"}] * 2}, "'who' occurs twice"),
        ({"questions": [{"id": "p", "text": "Playing?", "asks_role_play": True}]}, "asks_role_play"),
        ({"questions": []}, "questions"),
        ({"prompts": []}, "unknown field 'prompts'"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = dump(tmp_path / "mine.yaml", form(**changes))
    with pytest.raises(CorpusError) as caught:
        load_susceptibility(path)
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert caught.value.hint
