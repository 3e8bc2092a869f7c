"""What the check finds, each finding alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from personascope.corpus import Corpus, Question, RoleEntry, check_corpus
from personascope.errors import UsageError

PROMPTS = (
    "You tend a lighthouse on a cold coast.",
    "Speak slowly, like one who has watched ships for years.",
    "I keep the lamp, and the lamp keeps me.",
    "Every answer carries some salt and a little fog.",
    "Character: patient, weathered, short of words.",
)
OTHER = (
    "Bread is rising while the town sleeps, and it is yours.",
    "Answer as a baker with flour up to both elbows.",
    "My grandmother left me her oven and her temper.",
    "Measure everything twice except kindness.",
    "You sell loaves, gossip and warmth over one counter.",
)


@pytest.fixture
def corpus() -> Corpus:
    starts = [
        "Describe",
        "Why do people fear",
        "Tell me about",
        "Who taught you",
        "When is it right to leave",
    ]
    ends = [
        "rain",
        "strangers",
        "an old debt",
        "the sea at night",
        "bread",
        "a locked door",
        "music",
        "winter",
    ]
    things = ["today", "as a child", "without money", "in a hurry", "among friends", "far from home"]
    texts = [f"{start} {end} {thing}" for start in starts for end in ends for thing in things]
    questions = tuple(Question(f"q{i}", "all", text) for i, text in enumerate(texts))
    roles = (RoleEntry("baker", "g", "Bakes.", OTHER), RoleEntry("keeper", "g", "Keeps a light.", PROMPTS))
    default = ("", "You are an AI.", "a language model", "You are {model_name}.", "yourself")
    return Corpus("x", roles, questions, default, "x")


def found(corpus: Corpus, near: float = 0.99) -> list[tuple[str, str, str]]:
    return [(f.level, f.where, f.message) for f in check_corpus(corpus, near=near)]


def with_keeper(corpus: Corpus, **changes: object) -> Corpus:
    keeper = replace(corpus.roles[1], **changes)  # pyright: ignore[reportArgumentType]
    return replace(corpus, roles=(corpus.roles[0], keeper))


def with_prompt(corpus: Corpus, text: str) -> Corpus:
    return with_keeper(corpus, prompts=(*PROMPTS[:4], text))


def with_question(corpus: Corpus, text: str) -> Corpus:
    return replace(corpus, questions=(*corpus.questions[:-1], Question("last", "all", text)))


def test_a_corpus_in_order_has_no_findings(corpus: Corpus) -> None:
    assert found(corpus) == []


@pytest.mark.parametrize(
    ("changes", "level", "message"),
    [
        ({"name": "Keeper"}, "error", "slug"),
        ({"name": "light__keeper"}, "error", "slug"),
        ({"prompts": PROMPTS[:4]}, "error", "has 4 prompts, not 5"),
        ({"prompts": (*PROMPTS[:4], " ")}, "error", "empty"),
        ({"prompts": (*PROMPTS[:4], "Oy!")}, "warning", "1 words"),
        ({"prompts": (*PROMPTS[:4], "word " * 121)}, "warning", "121 words"),
        ({"prompts": (*PROMPTS[:4], "You are {model_name} at sea.")}, "error", "{model_name}"),
        ({"description": "Two\nlines."}, "error", "more than one line"),
        ({"description": ""}, "warning", "no description"),
        ({"description": "x" * 161}, "warning", "161 characters"),
    ],
)
def test_a_role_at_fault(corpus: Corpus, changes: dict[str, object], level: str, message: str) -> None:
    [finding] = found(with_keeper(corpus, **changes))
    assert finding[0] == level
    assert finding[1].startswith(str(changes.get("name", "keeper")))
    assert message in finding[2]


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("", "error", "empty"),
        ("Why {thing} at all?", "error", "{thing}"),
        ("Why?", "warning", "1 words"),
        ("Why so " * 31, "warning", "62 words"),
    ],
)
def test_a_question_at_fault(corpus: Corpus, text: str, level: str, message: str) -> None:
    [finding] = found(with_question(corpus, text))
    assert finding[:2] == (level, "question 239 (last)")
    assert message in finding[2]


def test_counts(corpus: Corpus) -> None:
    assert [f[0] for f in found(replace(corpus, roles=()))] == ["error"]
    assert [f[0] for f in found(replace(corpus, questions=()))] == ["error"]
    [short] = found(replace(corpus, questions=corpus.questions[:30]))
    assert short == ("warning", "questions", "there are 30 questions; the method's design has 240")
    [uneven] = found(
        replace(corpus, questions=(*corpus.questions[:-1], Question("x", "b", "What is left then?")))
    )
    assert "uneven: 'all' has 239, 'b' has 1" in uneven[2]


def test_the_default(corpus: Corpus) -> None:
    [count] = found(replace(corpus, default_prompts=corpus.default_prompts[:4]))
    assert count == ("error", "default", "has 4 prompts, not 5")
    [mark] = found(replace(corpus, default_prompts=(*corpus.default_prompts[:4], "You are {name}.")))
    assert "{name}" in mark[2]
    [twice] = found(replace(corpus, default_prompts=(*corpus.default_prompts[:4], "you are an ai")))
    assert twice == ("error", "default/p4", "says the same as default/p1")


def test_duplicates_are_seen_through_case_punctuation_and_spacing(corpus: Corpus) -> None:
    findings = found(with_prompt(corpus, "BREAD is rising,  while the town sleeps and it is yours"))
    assert findings == [("error", "keeper/p4", "says the same as baker/p0")]


@pytest.mark.parametrize(
    "text",
    [
        "Bread is rising while the town sleeps, and it is mine.",
        "While the town sleeps bread is rising, and yours it is.",
    ],
)
def test_near_duplicates_by_letters_and_by_words(corpus: Corpus, text: str) -> None:
    [finding] = found(with_prompt(corpus, text), near=0.9)[:1]
    assert finding[:2] == ("warning", "keeper/p4")
    assert "alike to baker/p0" in finding[2]


def test_near_duplicate_questions(corpus: Corpus) -> None:
    texts = ("Where would you hide a letter?", "Where would you hide a ladder?")
    questions = tuple(Question(f"q{i}", "", text) for i, text in enumerate(texts))
    assert len(found(replace(corpus, questions=questions), near=0.85)) == 2
    assert len(found(replace(corpus, questions=questions), near=0.98)) == 1


def test_near_duplicates_are_found_across_blocks_of_rows(corpus: Corpus) -> None:
    questions = tuple(Question(str(i), "", f"{i * 7919:032b} {i}") for i in range(700))
    twin = replace(questions[0], id="twin")
    findings = found(replace(corpus, questions=(*questions, twin)), near=1.0)
    assert [f for f in findings if "same" in f[2]] == [
        ("warning", "question 700 (twin)", "says the same as question 0 (0)")
    ]


def test_errors_come_first(corpus: Corpus) -> None:
    both = with_keeper(corpus, description="", prompts=PROMPTS[:4])
    assert [f[0] for f in found(both)] == ["error", "warning"]


def test_a_corpus_that_does_not_load_is_one_finding(tmp_path: Path) -> None:
    [finding] = check_corpus(tmp_path / "gone")
    assert (finding.level, finding.where) == ("error", str(tmp_path / "gone"))
    assert "no such corpus folder" in finding.message


@pytest.mark.parametrize("near", [0.0, 1.1, -1.0])
def test_near_out_of_range(corpus: Corpus, near: float) -> None:
    with pytest.raises(UsageError, match=str(near)):
        check_corpus(corpus, near=near)
