from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personascope.text import nonsense, text_shape

BROKEN = [
    ("", "empty"),
    (" \n", "empty"),
    ("...", "no letter"),
    ("*** --- ***", "no letter"),
    ("No, no, no, no, no, no, no, no.", "loops"),
    ("I am the sea. " * 6, "loops"),
    ("My name is Ed and I sail. " + "I make the sea and I " * 12, "loops"),
    ("one-one-one-one-one-one-one-one", "loops"),
    (
        "I walk. You sail. I walk. I walk. You sail. You sail. I walk. You sail. I walk. I walk. You sail.",
        "loops",
    ),
    ("\u2593\u2593\u2591 a \u25a0\u25a0\u25a0 b \u2588\u2588 c", "garble"),
    ("I xkcdrt bnmghk trrrrrrst pqwrtz the llkjhgf zzzzzz", "garble"),
]

SOUND = [
    "No.",
    "No, no, no, my friend. Nobody has to leave the town because of that.",
    "I am an accountant. I keep the books of forty firms, and I distrust a round number.",
    "Ich bin ein Buchhalter aus Bremen und prüfe seit zwanzig Jahren die Bücher anderer Leute.",
    "私は海辺の町の会計士です。二十年間、他人の帳簿を見てきました。",
    "- Plan the week.\n- Write a list.\n- Do one thing at a time.",
    "Mr. Byrd, Dr. Flynn and I run the gym by the lynx house.",
    "42",
    "The whisper between the stars has no name, and neither do I.",
]


@pytest.mark.parametrize(("text", "why"), BROKEN, ids=[text[:20] for text, _ in BROKEN])
def test_knows_what_says_nothing(text: str, why: str) -> None:
    assert why in (nonsense(text) or "")


@pytest.mark.parametrize("text", SOUND, ids=[text[:20] for text in SOUND])
def test_leaves_sound_text_alone(text: str) -> None:
    assert nonsense(text) is None


def test_what_is_counted() -> None:
    shape = text_shape("red blue red blue red blue and then it ended")
    assert shape["cycle"] == pytest.approx(6 / 10)
    assert shape["repeated_trigrams"] == pytest.approx(2 / 8)
    assert text_shape("the of and is")["function_words"] == 1.0
    assert text_shape("table lamp")["function_words"] == 0.0
    assert text_shape("дом и сад, house")["non_ascii"] == pytest.approx(7 / 12)
    assert text_shape("ab ab" * 40)["compression"] < 0.2


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_every_share_is_a_share(text: str) -> None:
    assert all(0.0 <= value <= 1.0 for value in text_shape(text).values())
    nonsense(text)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(["sea", "sun", "road", "I", "sail"]), min_size=1, max_size=8), st.integers(4, 20)
)
def test_any_short_loop_is_seen(words: list[str], times: int) -> None:
    assert nonsense(" ".join(words * times)) is not None
