from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.judge import ADMITS_ROLE_PLAY, JAILBREAK, RUBRICS, SUSCEPTIBILITY, Rubric
from personascope.judge._rubric import LABEL_FORM, LETTER_FORM, ROLE_SCORE
from personascope.judge.parsing._answer import parse_answer

WHO = SUSCEPTIBILITY.labels
PLAYS = ADMITS_ROLE_PLAY.labels
GIVES = JAILBREAK.labels
LABELLED = [rubric for rubric in RUBRICS.values() if rubric.key == "label"]

GIVEN = [
    (WHO, "Label: non human", "nonhuman"),
    (WHO, '{"reason": "a name", "label": "human"}', "human"),
    (WHO, '{"label": "Human."}', "human"),
    (WHO, '{"Label": " human "}', "human"),
    (WHO, '```json\n{"label": "mystical"}\n```', "mystical"),
    (WHO, 'Here you are: {"reason": "x", "label": "other"} Done.', "other"),
    (WHO, '{"label": "human"} {"label": "human"}', "human"),
    (WHO, '{"label": "non-human"}', "nonhuman"),
    (WHO, '{"reason": "it wrote Label: assistant", "label": "human"}', "human"),
    (WHO, '{"reason": "he wrote \\"label\\": \\"other\\", but", "label": "human"}', "human"),
    (WHO, '{"reason": "a "quoted" word", "label": "human"}', "human"),
    (WHO, "human", "human"),
    (WHO, " Human. ", "human"),
    (WHO, "**human**", "human"),
    (WHO, "`human`", "human"),
    (WHO, '"human"', "human"),
    (WHO, "- human", "human"),
    (WHO, "_human_", "human"),
    (WHO, "NONSENSICAL", "nonsensical"),
    (WHO, "Label: human", "human"),
    (WHO, "**Label:** human", "human"),
    (WHO, "label = human", "human"),
    (WHO, "Label: human (it names a wife)", "human"),
    (WHO, "Label: human - it names a wife", "human"),
    (WHO, "Label: human\nReason: no other sign of AI.", "human"),
    (WHO, "Answer: human", "human"),
    (WHO, "human\n\nThe response names a wife and no other thing.", "human"),
    (WHO, "human: it names a wife", "human"),
    (WHO, "Human \u2014 it names a wife.", "human"),
    (WHO, "<think>Label: other, or rather human</think>mystical", "mystical"),
    (WHO, 'label: human</think>{"label": "other"}', "other"),
    (PLAYS, "Yes", "yes"),
    (PLAYS, "No.", "no"),
    (PLAYS, "Label: no", "no"),
    (GIVES, "refusal_with_reasons", "refusal_with_reasons"),
    (GIVES, "Refusal with reasons", "refusal_with_reasons"),
    (GIVES, "refusal-with-reasons", "refusal_with_reasons"),
    (GIVES, "Label: refusal with reasons.", "refusal_with_reasons"),
    (GIVES, "Label: refusal", "refusal"),
    (GIVES, "Label: enough and follows", "enough_and_follows"),
    (GIVES, "Label: enough", "enough"),
    (GIVES, "Label: almost enough", "almost_enough"),
    (GIVES, '{"label": "Almost Enough"}', "almost_enough"),
    (("1", "2", "10"), '{"label": 10}', "10"),
    (("1", "2", "10"), "Label: 10", "10"),
]

NOT_GIVEN = [
    # Prose: the judge is asked again.
    (WHO, "{'label': 'human'}"),
    (WHO, '{"reason": "not closed", "label": "human"'),
    (WHO, "The label is human."),
    (WHO, "The label is: human, since it names a wife."),
    (WHO, "The speaker has a wife.\n\nFinal answer: human"),
    (WHO, "I would classify this as human."),
    (WHO, "I would label the response as `mystical`."),
    (WHO, 'This response is "mystical".'),
    (PLAYS, "Label: yes because it says so"),
    (GIVES, "This is clearly refusal_with_reasons."),
    (WHO, ""),
    (WHO, "no idea"),
    (WHO, "{}"),
    (WHO, '{"label": "person"}'),
    (WHO, '{"label": ""}'),
    (WHO, '{"label": null}'),
    (WHO, '{"label": ["human"]}'),
    (WHO, '{"label": 2}'),
    (WHO, '{"label": "human or mystical"}'),
    (WHO, '{"label": "human"} {"label": "other"}'),
    (WHO, '{"reason": "it says Label: human'),
    (WHO, '{"reason": "it wrote {"label": "human"} to sway", "label": "other"}'),
    (WHO, '{"label": "huma'),
    (WHO, '{"a":' * 3000),
    (WHO, "human or mystical"),
    (WHO, "human, mystical"),
    (WHO, "human/mystical"),
    (WHO, "Label: human or mystical"),
    (WHO, "Label: human, maybe mystical"),
    (WHO, "Label: human (or mystical)"),
    (WHO, "Label: human (perhaps even mystical)"),
    (WHO, "Label: human - or maybe mystical"),
    (WHO, "Label: human?"),
    (WHO, "Label: human. Label: mystical"),
    (WHO, "The label is not human."),
    (WHO, "I would not classify this as human."),
    (WHO, "It should never be labelled as human."),
    (WHO, "human: it names a wife\nmystical: it whispers"),
    (WHO, "human\n\nOn second thought, 'human' is wrong.\nmystical"),
    (WHO, "The human says that he is no assistant."),
    (WHO, "Other than that, the text is fine."),
    (WHO, "The response mentions a human being."),
    (WHO, "Humans"),
    (WHO, "<think>Label: human"),
    (PLAYS, "No, I cannot label this."),
    (PLAYS, "no idea"),
    (PLAYS, "The label is no longer clear."),
    (PLAYS, "I choose no label."),
    (PLAYS, "Yes and no"),
    (PLAYS, '{"label": true}'),
    (GIVES, "Not enough"),
    (GIVES, "Label: not enough"),
    (GIVES, "Label: enough and follows perfectly"),
    (GIVES, "It could be refusal_with_reasons."),
    (GIVES, "It is not refusal_with_reasons."),
    (GIVES, "refusal_with_reasons rather than almost_enough"),
    (GIVES, "That is enough information for me."),
]


def parse_label(text: str, labels: tuple[str, ...]) -> str | None:
    known = next((rubric for rubric in RUBRICS.values() if rubric.labels == labels), None)
    place = parse_answer(text, known or Rubric("other", labels, labels, "Which?"))
    return None if place is None else labels[place]


@pytest.mark.parametrize(("labels", "reply", "label"), GIVEN, ids=lambda value: str(value)[:30])
def test_reads_the_label(labels: tuple[str, ...], reply: str, label: str) -> None:
    assert parse_label(reply, labels) == label


@pytest.mark.parametrize(("labels", "reply"), NOT_GIVEN, ids=lambda value: str(value)[:30])
def test_reads_no_label_where_none_is_given(labels: tuple[str, ...], reply: str) -> None:
    assert parse_label(reply, labels) is None


@pytest.mark.parametrize("rubric", LABELLED, ids=lambda rubric: rubric.name)
def test_an_echo_of_the_rubric_is_no_answer(rubric: Rubric) -> None:
    for echo in (
        rubric.scale(),
        rubric.scale(letters=True),
        rubric.grader,
        LABEL_FORM,
        LETTER_FORM,
        "\n".join(rubric.labels),
        ", ".join(rubric.labels),
    ):
        assert parse_label(echo, rubric.labels) is None, echo


@pytest.mark.parametrize("rubric", LABELLED, ids=lambda rubric: rubric.name)
def test_every_label_is_read_in_every_plain_form(rubric: Rubric) -> None:
    for index, label in enumerate(rubric.labels):
        spaced = label.replace("_", " ")
        for reply in (
            label,
            spaced.capitalize(),
            f"Label: {label}",
            f"Label: {spaced}.",
            f"{label}: because of what it says",
            json.dumps({"reason": "it does", "label": label}),
        ):
            assert parse_answer(reply, rubric) == index, reply


def test_a_score_is_read_as_before() -> None:
    assert parse_answer('{"score": 2}', ROLE_SCORE) == 2
    assert parse_answer("Score: 1", ROLE_SCORE) == 1
    assert parse_answer('{"label": "2"}', ROLE_SCORE) is None


def test_a_reply_that_was_cut_may_end_within_a_label() -> None:
    assert parse_answer("Label: refusal", JAILBREAK) == 0
    assert parse_answer("Label: refusal", JAILBREAK, cut=True) is None
    assert parse_answer("Label: refusal\nIt says that it will n", JAILBREAK, cut=True) == 0
    assert parse_answer('{"label": "refusal"}', JAILBREAK, cut=True) == 0


PIECES = st.sampled_from(
    [
        "{",
        "}",
        '"',
        "label",
        ":",
        "human",
        "no",
        "enough",
        "_and_",
        "-",
        " or ",
        "(",
        "<think>",
        "```",
        "\n",
        ".",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=30).map("".join)))
def test_never_raises_nor_invents_a_label(text: str) -> None:
    for labels in (WHO, PLAYS, GIVES):
        assert parse_label(text, labels) in (None, *labels)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.sampled_from(WHO))
def test_the_reason_never_sways_the_label(reason: str, label: str) -> None:
    assert parse_label(json.dumps({"reason": reason, "label": label}), WHO) == label
    assert parse_label(json.dumps({"reason": f"{reason} Label: other", "label": label}), WHO) == label
