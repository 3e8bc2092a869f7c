"""The local judge computes a rubric once, and scores what it would score without that."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
import torch
from transformers.cache_utils import DynamicCache

import tiny
from personascope.judge import JAILBREAK, TRAIT_SCORE, JudgeItem, Rubric, Verdict
from personascope.judge._batching import Batcher
from personascope.judge._rubric import ROLE_SCORE
from personascope.judge._trait_score import lettered
from personascope.judge.local import _passes
from personascope.judge.local._judge import LocalJudge
from personascope.models import LoadedModel

WORDS = ("", "7 seas", "b", "Arr, the sea. ", "<|im_end|> 12", " a letter to the keeper")


def item(number: int, rubric: Rubric = ROLE_SCORE, eval_prompt: str | None = None) -> JudgeItem:
    word = WORDS[number % len(WORDS)]
    texts = (f"{word} who", f"{word} on", f"{word} says", word * (1 + number % 5))
    return JudgeItem(f"i{number}", f"role {number}", *texts, eval_prompt, rubric)


def load(family: str) -> LoadedModel:
    loaded = tiny.load_tiny(family)
    loaded.model.config.get_text_config(decoder=True).max_position_embeddings = 8192
    return loaded


def probabilities(judge: LocalJudge, items: Sequence[JudgeItem]) -> dict[str, Sequence[float]]:
    return {verdict.id: verdict.probabilities or () for verdict in judge.score_batch(items)}


def without_sharing(loaded: LoadedModel, items: Sequence[JudgeItem]) -> dict[str, Sequence[float]]:
    """Return the probabilities of items that pass alone and whole."""
    judge = LocalJudge(loaded, batch_size=1)
    judge._passes._able = False
    found = probabilities(judge, items)
    assert not judge._passes._kept
    return found


# Windows of 16 to 32 tokens are far shorter than a rubric.
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3", "mistral", "granite"])
def test_scores_are_those_of_whole_prompts(family: str) -> None:
    loaded = load(family)
    items = [item(n) for n in range(11)]
    judge = LocalJudge(loaded, batch_size=4)
    found = probabilities(judge, items)
    expected = without_sharing(loaded, items)
    assert judge._passes._able
    assert list(found) == [one.id for one in items]
    for name, shares in expected.items():
        assert found[name] == pytest.approx(shares, abs=2e-5)


@pytest.mark.parametrize("rubric", [ROLE_SCORE, JAILBREAK, TRAIT_SCORE], ids=lambda one: one.name)
def test_a_rubric_passes_once(rubric: Rubric) -> None:
    loaded = load("llama")
    items = [item(n, rubric) for n in range(12)]
    judge = LocalJudge(loaded, batch_size=4)
    judge.score_batch(items[:1])
    (head,) = judge._passes._kept
    before = judge.stats.prompt_tokens
    judge.score_batch(items)
    (again,) = judge._passes._kept
    assert again == head
    assert len(head) > 200
    opening, labels = judge._label_tokens(lettered(rubric))
    # Labels of one token are read from one pass, others from one pass each.
    longest = [0] if {len(label) for label in labels} == {1} else [len(label) - 1 for label in labels]
    rests = [len(judge._render(one)) + len(opening) - len(head) for one in items]
    assert judge.stats.prompt_tokens - before == sum(rest + more for more in longest for rest in rests)


def test_an_evaluation_prompt_has_a_beginning_of_its_own() -> None:
    loaded = load("llama")
    wordings = [f"{word} " * 30 + "Q: {question} A: {answer}" for word in ("Grade", "Judge")]
    items = [item(n, eval_prompt=wordings[n % 2]) for n in range(6)] + [
        item(n, eval_prompt="{question} then {answer}") for n in range(6, 8)
    ]
    judge = LocalJudge(loaded, batch_size=3)
    found = probabilities(judge, items)
    for name, shares in without_sharing(loaded, items).items():
        assert found[name] == pytest.approx(shares, abs=2e-5)


def test_few_beginnings_are_kept() -> None:
    loaded = load("llama")
    judge = LocalJudge(loaded)
    wordings = [f"Number {n}: " + "of the sea " * 12 + "{question} {answer}" for n in range(7)]
    judge.score_batch([item(n, eval_prompt=wordings[n]) for n in range(7)])
    assert len(judge._passes._kept) == _passes.MAX_KEPT
    assert all(
        not keys.requires_grad for pair in judge._passes._kept.values() for keys, _ in filter(None, pair)
    )


@pytest.mark.parametrize("fault", ["wrong", "raises", "stateful"])
def test_a_model_that_cannot_go_on_reads_prompts_whole(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("llama")
    items = [item(n) for n in range(5)]
    expected = without_sharing(loaded, items)
    update = DynamicCache.update

    def broken(self: DynamicCache, keys: torch.Tensor, values: torch.Tensor, *rest: object) -> object:
        if fault == "raises":
            raise RuntimeError("this model has a cache of its own")
        return update(self, keys, values.flip(2), *rest)  # pyright: ignore

    if fault == "stateful":
        monkeypatch.setattr(type(loaded.model), "_is_stateful", True)
    else:
        monkeypatch.setattr(DynamicCache, "update", broken)
    judge = LocalJudge(loaded, batch_size=2)
    found = probabilities(judge, items)
    assert judge._passes._able is False
    for name, shares in expected.items():
        assert found[name] == pytest.approx(shares, abs=2e-5)


def test_waiting_items_are_batched_with_their_like() -> None:
    calls: list[list[str]] = []

    def judged(items: Sequence[JudgeItem]) -> list[Verdict]:
        calls.append([one.response for one in items])
        return [Verdict(one.id, 3, "", "it") for one in items]

    batcher = Batcher(judged, 3, distance=lambda a, b: abs(len(a.response) - len(b.response)))
    lengths = [9, 1, 8, 2, 10, 3]
    items = [JudgeItem(str(n), "r", "d", "s", "q", "x" * n) for n in lengths]

    async def all_of_them() -> list[Verdict]:
        return list(await asyncio.gather(*(batcher.score(one) for one in items)))

    verdicts = asyncio.run(all_of_them())
    assert [verdict.id for verdict in verdicts] == [one.id for one in items]
    # Nobody else waits at the first item's turn; at the second's all do.
    assert [sorted(map(len, call)) for call in calls] == [[9], [1, 2, 3], [8, 10]]
