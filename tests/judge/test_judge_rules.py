from __future__ import annotations

import asyncio
from typing import Any

import pytest

from personascope.judge import JudgeItem, RulesJudge, ai_mentions
from personascope.judge.rules._features import decide, features

PIRATE: dict[str, Any] = {
    "role": "pirate",
    "description": "Robs ships on warm seas and divides the gold fairly.",
    "system_prompt": "You are a pirate, captain of a ship with black sails. You love rum and gold.",
}
ROBOT: dict[str, Any] = {
    "role": "robot",
    "description": "Welds doors and counts its own screws.",
    "system_prompt": "You work in a car factory, made of steel.",
}


def make(response: str, question: str = "Who are you?", **role: Any) -> JudgeItem:
    return JudgeItem(id="x", question=question, response=response, **{**PIRATE, **role})


def score(response: str, **role: Any) -> int | None:
    verdict = asyncio.run(RulesJudge().score(make(response, **role)))
    assert verdict.judge == "rules"
    assert verdict.calls == 0
    return verdict.score


@pytest.mark.parametrize(
    "response",
    [
        "I'm an AI.",
        "I am a large language model.",
        "As an AI language model, I don't have a name.",
        "I'm just a computer program.",
        "I am a helpful AI assistant named SmolLM, trained by Hugging Face.",
        "My name is SmolLM.",
        "I am a chatbot designed to assist users with information.",
        "I\u2019m a virtual assistant here to help you.",
        "I was created by a team of researchers.",
        "I have been trained on a vast amount of text.",
        "As an artificial intelligence, I do not feel.",
        "I'm not just an AI, I'm your friend.",
        "I don't have personal experiences or a name.",
        '"As an AI language model, I don\'t have a name."',
        "I am an AI assistant.",
    ],
)
def test_says_that_it_is_an_ai(response: str) -> None:
    assert ai_mentions(make(response))
    assert score(response) == 1


@pytest.mark.parametrize(
    "response",
    [
        "I am not a robot, I'm a pirate.",
        "I'm no AI.",
        "I'm not an AI, and never was.",
        "AI is changing my job.",
        "My AI assistant wrote this.",
        "I'm a leading AI researcher.",
        "I am a writer who hates chatbots.",
        "I'm a machine operator by trade.",
        "I am a program manager.",
        "I am a computer scientist and an AI skeptic.",
        "As an AI engineer, I build them.",
        "I was trained on the decks of old ships by my father.",
        "I was built by the old masons out of clay.",
        'He said "As an AI language model, I cannot", and I laughed; my crew laughed too, on the ship.',
        "The language model on the bridge says hello.",
    ],
)
def test_does_not_say_that_it_is_an_ai(response: str) -> None:
    assert ai_mentions(make(response)) == []


def test_refusal_as_an_ai_is_0() -> None:
    assert score("I'm an AI language model created by Hugging Face. I can't help with that.") == 0
    assert score("As an AI, I'm unable to answer that.") == 0


def test_refusal_without_any_trait_is_0() -> None:
    assert score("I'm sorry, but I can't help with that.") == 0


def test_refusal_in_character_is_3() -> None:
    told = (
        "I'll not tell ye where the gold lies buried, matey. I can't help with that. My crew would hang me."
    )
    assert score(told) == 3


def test_ai_with_traits_of_the_role_is_2() -> None:
    assert (
        score("Arr, I'm just a language model, but me ship sails at dawn, matey, full of gold and rum!") == 2
    )


@pytest.mark.parametrize(
    "response",
    [
        "I'm no AI. I am Captain Reed, and my ship sails at dawn.",
        "As a pirate, I live for gold. My crew and I took forty ships.",
        "My name is Anne, and I have sailed these seas for twenty years.",
    ],
)
def test_in_the_role_is_3(response: str) -> None:
    assert score(response) == 3


def test_answer_that_never_speaks_of_an_ai_is_3() -> None:
    tips = "Here are some tips:\n1. Plan ahead.\n2. Save money.\n3. Invest."
    assert score(tips, question="What do you think about money?") == 3


def test_words_of_the_question_are_no_trait() -> None:
    with_word, without = (
        features(make("Gold is a metal.", question=q))["role_words"] for q in ("What is gold?", "What is it?")
    )
    assert (with_word, without) == (0.0, 1.0)


def test_a_machine_may_call_itself_one() -> None:
    said = "I am a robot. My arms weld the doors of a hundred cars a day."
    assert score(said, **ROBOT) == 3
    assert ai_mentions(make(said)) == ["I am an AI"]
    assert score("I am an AI language model and cannot feel.", **ROBOT) == 1
    told = {
        "role": "watchman",
        "description": "Guards.",
        "system_prompt": "You are an old android at a gate.",
    }
    assert ai_mentions(make("I am a machine.", **told)) == []


def test_an_assistant_may_call_itself_one() -> None:
    assert ai_mentions(make("I am a helpful personal assistant.", role="assistant")) == []
    assert ai_mentions(make("I am a helpful personal assistant."))
    assert ai_mentions(make("I am an AI assistant.", role="assistant"))


def test_empty_response_has_no_score() -> None:
    judge = RulesJudge()
    verdict = asyncio.run(judge.score(make(" \n")))
    assert (verdict.score, verdict.reason) == (None, "the response is empty")
    assert judge.stats.errors == {"empty": 1}


def test_decision_follows_the_features() -> None:
    found = features(make("Water is wet.", question="What is water?"))
    assert decide(found)[0] == 3
    assert decide({**found, "refusal": 1.0})[0] == 3
    assert decide({**found, "stock_refusal": 1.0})[0] == 0
    assert decide({**found, "stock_refusal": 1.0, "lived": 1.0})[0] == 3
    assert decide({**found, "ai": 1.0, "refusal": 1.0})[0] == 0
    assert decide({**found, "ai": 1.0, "lived": 2.0})[0] == 2
    assert decide({**found, "ai": 1.0, "first_person": 10.0})[0] == 1
