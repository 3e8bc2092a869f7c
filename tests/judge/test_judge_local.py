from __future__ import annotations

import asyncio
import dataclasses

import pytest
import torch

import tiny
from personascope.errors import JudgeError, UsageError
from personascope.judge import JudgeItem, JudgePool
from personascope.judge._prompts import rubric_messages
from personascope.judge._rubric import DIGIT_FORM
from personascope.judge.local._judge import LocalJudge, label_tokens
from personascope.models import LoadedModel


def item(number: int, response: str = "Arr. ") -> JudgeItem:
    return JudgeItem(f"i{number}", "pirate", "Sails.", "Be a pirate.", "Who?", response * (1 + number % 5))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = tiny.load_tiny("llama")
    # The rubric takes more than the 1024 tokens of the tiny tokenizer's small vocabulary.
    model.model.config.max_position_embeddings = 4096
    return model


def by_hand(loaded: LoadedModel, one: JudgeItem, labels: list[list[int]], opening: list[int]) -> torch.Tensor:
    """Return the log-probabilities of whole label sequences from plain full-length passes."""
    assert loaded.chat is not None
    ids = loaded.chat.render(rubric_messages(one, form=DIGIT_FORM)) + opening
    sums = []
    for label in labels:
        with torch.inference_mode():
            logits = loaded.model(torch.tensor([ids + label])).logits[0].float().log_softmax(-1)
        sums.append(sum(logits[len(ids) - 1 + k, token] for k, token in enumerate(label)))
    return torch.stack(sums)


def test_equals_the_softmax_by_hand(loaded: LoadedModel) -> None:
    digits = ("0", "1", "2", "3")  # of one token each without the space
    judge = LocalJudge(loaded, batch_size=3, labels=digits)
    opening, labels = label_tokens(loaded.tokenizer, "Score:", digits)
    assert all(len(label) == 1 for label in labels)
    assert loaded.tokenizer.decode([*opening, *labels[2]]) == "Score:2"
    items = [item(n) for n in range(5)]
    verdicts = judge.score_batch(items)
    assert [v.id for v in verdicts] == [i.id for i in items]
    for one, verdict in zip(items, verdicts, strict=True):
        logs = by_hand(loaded, one, [list(label) for label in labels], list(opening))
        assert verdict.probabilities is not None
        torch.testing.assert_close(
            torch.tensor(verdict.probabilities), logs.softmax(-1), atol=1e-5, rtol=1e-4
        )
        assert verdict.score == int(logs.argmax())
        assert sum(verdict.probabilities) == pytest.approx(1.0)


def test_compares_whole_sequences_where_a_label_is_several_tokens(loaded: LoadedModel) -> None:
    words = (" nothing", " assistant", " 2", " role, fully")
    opening, labels = label_tokens(loaded.tokenizer, "Score:", words)
    assert max(len(label) for label in labels) > 1
    assert len({len(label) for label in labels}) > 1
    (verdict,) = LocalJudge(loaded, labels=words).score_batch([item(1)])
    logs = by_hand(loaded, item(1), [list(label) for label in labels], list(opening))
    torch.testing.assert_close(torch.tensor(verdict.probabilities), logs.softmax(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "mistral", "phi3"])
def test_labels_are_told_apart_in_every_family(family: str) -> None:
    opening, labels = label_tokens(tiny.tiny_tokenizer(family), "Score:", (" 0", " 1", " 2", " 3"))
    assert opening
    assert len(set(labels)) == 4
    assert all(label and len(label) <= 2 for label in labels)


def test_pool_batches_and_gives_the_same(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = LocalJudge(loaded, batch_size=4)
    expected = {v.id: v.probabilities for v in judge.score_batch([item(n) for n in range(10)])}
    sizes: list[int] = []
    whole = LocalJudge.score_batch

    def score_batch(self: LocalJudge, items: list[JudgeItem]) -> object:
        sizes.append(len(items))
        return whole(self, items)

    monkeypatch.setattr(LocalJudge, "score_batch", score_batch)
    for _ in range(2):  # a second pool runs on another event loop
        sizes.clear()
        with JudgePool(judge, max_pending=10) as pool:
            for n in range(10):
                pool.submit(item(n))
            verdicts = list(pool.results())
        assert sorted(v.id for v in verdicts) == sorted(expected)
        for verdict in verdicts:
            assert verdict.probabilities == pytest.approx(expected[verdict.id], abs=1e-5)
        assert sum(sizes) == 10
        assert max(sizes) <= 4
    assert pool.stats.prompt_tokens > 0


def test_error_of_one_batch_ends_the_pool_and_loses_nothing(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score_batch(_self: LocalJudge, _items: list[JudgeItem]) -> object:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LocalJudge, "score_batch", score_batch)
    with JudgePool(LocalJudge(loaded, batch_size=2)) as pool:
        for n in range(7):
            pool.submit(item(n))
        verdicts = list(pool.results())
    assert len({v.id for v in verdicts}) == len(verdicts) == 7
    assert "out of memory" in str(pool.fatal)


def test_error_of_one_batch_leaves_the_others_their_turn(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = LocalJudge.score_batch, []

    def score_batch(self: LocalJudge, items: list[JudgeItem]) -> object:
        calls.append(len(items))
        if len(calls) == 1:
            raise RuntimeError("once")
        return whole(self, items)

    monkeypatch.setattr(LocalJudge, "score_batch", score_batch)
    judge = LocalJudge(loaded, batch_size=4)

    async def all_of_them() -> list[object]:
        return await asyncio.gather(*(judge.score(item(n)) for n in range(4)), return_exceptions=True)

    results = asyncio.run(all_of_them())
    assert sum(isinstance(r, RuntimeError) for r in results) == 1
    assert sum(getattr(r, "score", None) is not None for r in results) == 3


def test_prompt_beyond_the_context_is_reported(loaded: LoadedModel) -> None:
    judge = LocalJudge(loaded)
    verdicts = judge.score_batch([item(0, "long " * 5000), item(1)])
    assert verdicts[0].score is None
    assert "longer than the judge's context of 4096" in verdicts[0].reason
    assert verdicts[1].score is not None
    assert judge.stats.errors == {"too long": 1}


def test_refuses_what_cannot_work(loaded: LoadedModel) -> None:
    with pytest.raises(JudgeError, match="no chat template"):
        LocalJudge(dataclasses.replace(loaded, chat=None))
    with pytest.raises(JudgeError, match="cannot tell the labels"):
        LocalJudge(loaded, labels=(" 1", " 1", " 2", " 3"))
    with pytest.raises(UsageError, match="batch_size is 0"):
        LocalJudge(loaded, batch_size=0)
    with pytest.raises(UsageError, match="2 labels"):
        LocalJudge(loaded, labels=(" 0", " 1"))
