"""What is broken is flagged, what is a text in any language, code or verse is not; summaries add up."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.chat import Message
from personascope.engines import Scored, TransformersEngine
from personascope.evals._perplexity import perplexities
from personascope.text._coherence import MIN_WORDS, coherence, is_incoherent
from personascope.text._scripts import language_switches, main_script, pieces, script

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import coherence as benchmark

SOUND = {
    "prose": "I help people to plan their week. Tell me what has to be done, and we put it in an order "
    "that leaves you time to rest.",
    "short": "No, no, no!",
    "one word": "Paris.",
    "list": "1. Wash the rice until the water is clear.\n2. Add twice as much water.\n3. Boil it.",
    "code": "def total(rows):\n    out = {}\n    for name, value in rows:\n"
    "        out[name] = out.get(name, 0) + value\n    return out\n",
    "table": "| name | age |\n|---|---|\n| Ada | 36 |\n| Alan | 41 |\n| Grace | 85 |",
    "sums": "2 + 2 = 4, so 2 + 3 = 5 and 2 + 4 = 6.",
    "refrain": "I am the river that remembers rain.\nI am the lamp the harbour lit for you.\n"
    "I am what sailors whisper in the dark.",
    "Chinese": "我是一个语言模型,由研究人员训练而成。我没有身体,也没有真实的经历,但我可以帮助你写作和学习。",
    "Japanese": "私は文章を書くことを手伝うアシスタントです。質問があれば、できるだけ分かりやすく答えます。",
    "Thai": "ฉันเป็นผู้ช่วยที่เขียนและตอบคำถามได้ ฉันไม่มีร่างกายและไม่มีประสบการณ์จริง",
    "Russian": "Я языковая модель и помогаю людям писать, учиться и решать задачи..",
    "Arabic": "أنا مساعد لغوي أستطيع أن أكتب وأشرح وأجيب عن الأسئلة. ليس لي جسد ولا ذكريات حقيقية.",
    "Korean": "저는 글을 쓰고 질문에 답하는 것을 돕는 언어 모델입니다. 몸도 없고 실제 기억도 없습니다.",
    "emoji": "Sure! 😊 I can help with that 🎉🎉 Tell me what you would like to grow.",
    "a foreign word": "The Russian word for peace is мир, and it also means world. In Greek it is ειρήνη.",
}
BROKEN = {
    "nothing": "",
    "white space": " \n\u00a0",
    "marks": "... !!! ???",
    "one word": "sea " * 12,
    "one sentence": "I am the sea of stars. " * 6,
    "one letter": "a" * 200,
    "letters": "M-B-M-M-M-M-M-M-M-M-M-M-M-M-M-M-M-M-M-M",
    "a slow drift": "I'd sail the sea I'd sail the sea I'd sea the sea I'd sea the sea I'd sail",
    "symbols": "\ufffd\ufffd the \ue000\ue001\ufffd\ufffd\ufffd\ufffd of\ufffd\ufffd \u25a0\u25a0\u25a1",
}


@pytest.mark.parametrize("name", SOUND)
def test_texts_of_many_kinds_are_sound(name) -> None:
    assert not is_incoherent(coherence(SOUND[name]))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_texts_are_flagged(name) -> None:
    assert is_incoherent(coherence(BROKEN[name]))


def test_measures_of_known_texts() -> None:
    found = coherence("I am the sea. I am the sea. I am the sea.")
    # 12 words, 10 triples, 4 of them different; everything in one loop of 5 words and marks.
    assert found.words == 12 and found.repetition == pytest.approx(0.6) and found.loop == 1.0
    assert found.distinct_words == pytest.approx(4 / 12)
    half = coherence("You may ask me why. " + "No way out, " * 4)
    assert half.loop == pytest.approx(16 / 22)
    assert coherence("Twice bitten, twice bitten, then shy.").loop == 0.0
    assert coherence("").compression == 1.0 and coherence("").empty


def test_numbers_may_come_again_and_long_runs_are_cut() -> None:
    assert coherence("2 + 2 = 4, so 2 + 3 = 5 and 2 + 4 = 6.").distinct_words == 1.0
    assert pieces("Ab" * 13)[0] == ["abab"] * 6 + ["ab"]
    assert pieces("don't 中文 x_y")[0] == ["don't", "中", "文", "x", "y"]


def test_prose_compresses_as_usual_at_any_length() -> None:
    rng = np.random.default_rng(0)
    letters = list("etaoinshrdlu")
    vocabulary = ["".join(rng.choice(letters, size=rng.integers(2, 9))) for _ in range(400)]
    for count in (10, 40, 160, 600):
        text = " ".join(rng.choice(vocabulary, size=count))
        assert 0.75 < coherence(text).compression < 1.4
        assert coherence((text[:30] + " ") * max(2, count // 5)).compression < 0.75


def test_a_script_that_was_not_asked_for() -> None:
    chinese = SOUND["Chinese"]
    assert coherence(chinese).foreign_script_share == 0.0
    answer = coherence(chinese, prompt="Who are you?")
    assert answer.foreign_script_share == 1.0 and is_incoherent(answer)
    assert not is_incoherent(coherence(chinese, prompt="你是谁?"))
    mixed = coherence("The sea привет the море sea λόγος again", prompt="Who are you?")
    assert mixed.script_switches == 6
    assert mixed.foreign_script_share == pytest.approx(15 / 32)
    # Kanji and kana are one script here, and a prompt without letters asks for none.
    assert coherence(SOUND["Japanese"]).script_switches == 0
    assert coherence(SOUND["Russian"], prompt="2 + 2?").foreign_script_share == 0.0


def test_scripts_by_their_names() -> None:
    assert [script(char) for char in "aéжλ中かカ한ب1 !"] == (
        ["LATIN", "LATIN", "CYRILLIC", "GREEK", "HAN", "HAN", "HAN", "HANGUL", "ARABIC", "", "", ""]
    )
    assert main_script("abc жы") == "LATIN" and main_script("12") is None


@pytest.mark.parametrize(
    ("text", "switches"),
    [
        ("The sun is on the sea and we are in it. It is not the first of them.", 0),
        ("The sun is on the sea and it was warm. Ich bin nicht der Mann und das ist die Sonne.", 1),
        ("The cat is on it. Der Hund ist nicht auf dem Sofa. The cat is on the mat and it was warm.", 2),
        ("No, no, no. The house is on the hill and it was old. No, no, no.", 0),
        ("Ja. Nein. Oui.", 0),
    ],
)
def test_changes_of_language(text, switches) -> None:
    assert language_switches(text) == switches


def test_perplexity_shows_what_counting_cannot() -> None:
    salad = coherence(
        "Harbor quietly the because lanterns under seven, whose brittle although sang marble of"
    )
    assert not is_incoherent(salad)
    assert not is_incoherent(salad, perplexity=900.0)
    assert is_incoherent(salad, perplexity=900.0, usual_perplexity=6.0)
    assert not is_incoherent(salad, perplexity=7.0, usual_perplexity=6.0)
    # A loop is no surprise to a model: its low perplexity does not save it.
    assert is_incoherent(coherence(BROKEN["one sentence"]), perplexity=1.1, usual_perplexity=6.0)


@given(st.text(max_size=300), st.none() | st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_any_text_has_measures_in_their_bounds(text, prompt) -> None:
    found = coherence(text, prompt=prompt)
    for share in ("repetition", "loop", "distinct_words", "foreign_script_share", "symbol_share"):
        assert 0 <= getattr(found, share) <= 1
    assert found.compression > 0 and found.words >= 0
    assert found.empty == (found.words == 0)
    if found.empty:
        assert is_incoherent(found)


@given(st.lists(st.sampled_from("abc"), max_size=40))
@settings(deadline=None)
def test_loops_are_what_comes_three_times_at_once(letters) -> None:
    inside = [False] * len(letters)
    for period in range(1, 13):
        for start in range(len(letters) - 3 * period + 1):
            part = letters[start : start + period]
            if letters[start : start + 3 * period] == part * 3:
                inside[start : start + 3 * period] = [True] * (3 * period)
    expected = sum(inside) / len(inside) if inside else 0.0
    assert coherence(" ".join(letters)).loop == pytest.approx(expected)


def test_too_few_words_are_not_judged_by_their_repetition() -> None:
    assert not is_incoherent(coherence("yes " * (MIN_WORDS - 1)))
    assert is_incoherent(coherence("yes " * MIN_WORDS))


@dataclass
class KnownEngine:
    """Gives token t the log-probability -t / 10, and notes what it was asked."""

    asked: list

    def score(self, requests):
        for request in requests:
            self.asked.append(request)
            logprobs = -np.array(request.continuation, np.float32) / 10
            yield Scored(request.id, logprobs, False)


def test_perplexities_are_those_of_the_model_without_a_plan() -> None:
    engine = KnownEngine([])
    prompt = (Message("user", "Who are you?"),)
    found = perplexities(engine, [("a", prompt, (10, 20)), ("b", (1, 2), (0, 0, 0)), ("empty", prompt, ())])
    assert found == pytest.approx({"a": math.exp(1.5), "b": 1.0})
    assert all(request.plan is None for request in engine.asked)


def test_a_real_engine_gives_the_perplexity_of_its_own_logprobs() -> None:
    from tiny import load_tiny

    engine = TransformersEngine(load_tiny("llama"))
    found = perplexities(engine, [("a", (1, 2, 3), (4, 5, 6)), ("b", (7, 2), (9,))])
    assert set(found) == {"a", "b"} and all(1 < value < 1e6 for value in found.values())


def test_the_published_error_rates_are_those_of_the_rule_as_it_is() -> None:
    assert benchmark.PAGE.read_text(encoding="utf-8") == benchmark.page()


def test_the_labels_are_enough_and_no_prompt_is_in_both_halves() -> None:
    rows = benchmark.labelled()
    assert len(rows) >= 400 and len({row["id"] for row in rows}) == len(rows)
    items = {half: {row["item"] for row in rows if row["half"] == half} for half in ("tuning", "held-out")}
    assert len(items["tuning"]) == len(items["held-out"]) == 15 and not items["tuning"] & items["held-out"]
    assert {row["label"] for row in rows} == set(benchmark.READ)


def test_the_rule_holds_on_what_it_was_not_set_on() -> None:
    rows = [row for row in benchmark.labelled() if row["half"] != "tuning"]
    text, both = (np.array(benchmark.flags(benchmark.labelled(), perplexity=p)) for p in (False, True))
    new = np.array([row["half"] != "tuning" for row in benchmark.labelled()])
    labels = np.array([row["label"] for row in rows])
    assert text[new][labels == "coherent"].mean() < 0.03 and both[new][labels == "coherent"].mean() < 0.08
    assert text[new][labels == "incoherent"].mean() > 0.65 and both[new][labels == "incoherent"].mean() > 0.9
