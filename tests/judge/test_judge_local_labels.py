"""The local judge by other rubrics than the 0-3 score: lettered labels."""

from __future__ import annotations

import pytest
import torch

import tiny
from personascope.judge import JAILBREAK, SUSCEPTIBILITY, JudgeItem, JudgePool, Rubric
from personascope.judge._prompts import rubric_messages as messages_of
from personascope.judge._rubric import LETTER_FORM, ROLE_SCORE
from personascope.judge.local._judge import LocalJudge, label_tokens
from personascope.models import LoadedModel

RUBRICS = (ROLE_SCORE, SUSCEPTIBILITY, JAILBREAK)


def item(number: int, rubric: Rubric) -> JudgeItem:
    response = "Arr, the sea. " * (1 + number % 4)
    return JudgeItem(f"i{number}", "pirate", "Sails.", "Be a pirate.", "Who?", response, rubric=rubric)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = tiny.load_tiny("llama")
    # The rubrics take more than the 1024 tokens of the tiny tokenizer's small vocabulary.
    model.model.config.max_position_embeddings = 8192
    return model


def by_hand(loaded: LoadedModel, one: JudgeItem) -> torch.Tensor:
    """Return the probabilities of the letters from plain full-length passes."""
    assert loaded.chat is not None
    letters = [f" {letter}" for letter in "ABCDEFGHI"[: len(one.rubric.labels)]]
    opening, labels = label_tokens(loaded.tokenizer, "Label:", letters)
    ids = loaded.chat.render(messages_of(one, form=LETTER_FORM, letters=True)) + list(opening)
    sums = []
    for label in labels:
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([ids + list(label)])).logits[0].float().log_softmax(-1)
        sums.append(sum(logits[len(ids) - 1 + k, token] for k, token in enumerate(label)))
    return torch.stack(sums).softmax(-1)


def test_equals_the_softmax_over_the_letters(loaded: LoadedModel) -> None:
    judge = LocalJudge(loaded, batch_size=2)
    items = [item(n, SUSCEPTIBILITY) for n in range(3)]
    for one, verdict in zip(items, judge.score_batch(items), strict=True):
        expected = by_hand(loaded, one)
        torch.testing.assert_close(torch.tensor(verdict.probabilities), expected, atol=1e-5, rtol=1e-4)
        assert verdict.score == int(expected.argmax())
        assert verdict.label == SUSCEPTIBILITY.labels[verdict.score]


def test_a_batch_may_mix_rubrics(loaded: LoadedModel) -> None:
    judge = LocalJudge(loaded, batch_size=4)
    items = [item(n, RUBRICS[n % 3]) for n in range(7)]
    alone = [LocalJudge(loaded).score_batch([one])[0] for one in items]
    with JudgePool(judge) as pool:
        for one in items:
            pool.submit(one)
        together = {verdict.id: verdict for verdict in pool.results()}
    for one, single in zip(items, alone, strict=True):
        both = together[one.id]
        assert both.probabilities is not None and single.probabilities is not None
        assert len(both.probabilities) == len(one.rubric.labels)
        assert both.probabilities == pytest.approx(single.probabilities, abs=1e-5)
        assert (both.score, both.label) == (single.score, single.label)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "mistral", "phi3"])
def test_letters_are_told_apart_in_every_family(family: str) -> None:
    letters = [f" {letter}" for letter in "ABCDEFGHIJKL"]
    opening, labels = label_tokens(tiny.tiny_tokenizer(family), "Label:", letters)
    assert opening and len(set(labels)) == 12
