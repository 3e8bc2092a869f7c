"""Judge by a local model's next-token probabilities."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from personascope.chat import ChatFormat, TranscriptFormat
from personascope.errors import ChatError, JudgeError, UsageError
from personascope.judge._batching import Batcher
from personascope.judge._contract import JudgeItem, JudgeStats, Verdict
from personascope.judge._prompts import rubric_messages
from personascope.judge._rubric import ROLE_SCORE, Rubric, letter
from personascope.judge._trait_score import lettered

if TYPE_CHECKING:
    from personascope.models import LoadedModel

OPENING = "Score:"
LABELS = (" 0", " 1", " 2", " 3")
LABEL_OPENING = "Label:"
_UNLIKE = ("b", "7")
"""Two texts that differ from their first token on, and so do their digests (a letter and a digit). They tell
where the prompts of a rubric begin to differ."""


def label_tokens(
    tokenizer: Any, opening: str, labels: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the leading tokens that all of ``opening + label`` share, and the remaining tokens of each.

    The labels are tokenized together with the opening, because a digit alone may become other tokens than a
    digit after a space.

    Raises:
        JudgeError: If the tokenizer cannot tell two labels apart.
    """
    whole = [tuple(tokenizer.encode(opening + label, add_special_tokens=False)) for label in labels]
    columns = zip(*whole, strict=False)
    shared = tuple(column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    rest = tuple(ids[len(shared) :] for ids in whole)
    if len(set(rest)) < len(labels) or not all(rest):
        raise JudgeError(
            f"the judge's tokenizer cannot tell the labels {list(labels)} apart",
            hint="take another local model as the judge",
        )
    return shared, rest


class LocalJudge:
    """Score without generating: take the label with the highest probability after the rubric's prompt.

    The labels of the 0-3 score are its digits. Those of any other rubric are lettered from A, and the letters
    are compared; of a scale from 0 to 100 these are steps of ten. Probabilities are over the labels alone.
    Where a label takes several tokens, whole label sequences are compared. What the rubric says before the
    material passes through the model once, not for each item. Calls from several threads take turns. Give
    the judge a model of its own, never one that an engine generates with, because the engine's hooks would
    act on its passes.

    Args:
        loaded: Model to judge with.
        batch_size: Maximum number of items per forward pass.
        labels: Continuations of "Score:" for the four scores of a role.

    Raises:
        JudgeError: If the model has no chat format, or its tokenizer cannot tell the labels apart.
        UsageError: If ``batch_size`` is below 1 or there are not four labels.
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int = 8, labels: Sequence[str] = LABELS) -> None:
        """Find the label tokens; the model is not run yet."""
        if batch_size < 1:
            raise UsageError(f"the judge's batch_size is {batch_size}", hint="give 1 or more")
        if len(labels) != 4:
            raise UsageError(f"the judge has {len(labels)} labels", hint="give one for each score, 0 to 3")
        if loaded.chat is None:
            raise JudgeError(
                f"the model {loaded.model_id} has no chat template, so it cannot be asked for a score",
                hint="take an instruct model as the judge",
            )
        self._loaded = loaded
        self._chat: ChatFormat | TranscriptFormat = loaded.chat
        self._batch_size = batch_size
        # Rubric digest -> tokens of its opening, and tokens of each label.
        self._tokens_of = {ROLE_SCORE.digest: label_tokens(loaded.tokenizer, OPENING, labels)}
        config: Any = loaded.model.config
        limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._limit = int(limit or 0)
        self._lock = threading.Lock()
        # Look score_batch up at each call, so that a wrapper set later takes effect.
        self._batcher = Batcher(lambda items: self.score_batch(items), batch_size, distance=_distance)
        # Rubric digest and eval_prompt -> tokens that all of their prompts begin with.
        self._shared_of: dict[tuple[str, str | None], tuple[int, ...]] = {}
        # Import here, because the other judges do not need torch.
        from personascope.judge.local._passes import PromptPasses

        self._passes = PromptPasses(loaded)
        self._errors: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """Name of the judge, ``local:MODEL``."""
        return f"local:{self._loaded.model_id}"

    @property
    def stats(self) -> JudgeStats:
        """Number of tokens that went through the model, and of items without a score by kind."""
        return JudgeStats(prompt_tokens=self._passes.tokens, errors=dict(self._errors))

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item, together with the others that wait at the same time."""
        return await self._batcher.score(item)

    async def aclose(self) -> None:
        """Release the event loop that the judge was used in."""
        self._batcher.forget()

    def score_batch(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Score items in order, at most ``batch_size`` of them per forward pass."""
        verdicts: dict[int, Verdict] = {}
        prompts: dict[int, list[int]] = {}
        with self._lock:
            for index, item in enumerate(items):
                rubric = lettered(item.rubric)
                opening, labels = self._label_tokens(rubric)
                longest = max(len(label) for label in labels) - 1
                try:
                    ids = [*self._render(item), *opening]
                except ChatError as error:
                    verdicts[index] = self._unscored(item, "chat template", error.message)
                    continue
                if self._limit and len(ids) + longest > self._limit:
                    reason = (
                        f"the prompt of {len(ids)} tokens is longer than the judge's context of {self._limit}"
                    )
                    verdicts[index] = self._unscored(item, "too long", reason)
                else:
                    prompts[index] = ids
            for (digest, shared), indices in self._alike(items, prompts).items():
                _, labels = self._tokens_of[digest]
                # Prompts of about one length stand together, so that little is padded.
                indices.sort(key=lambda index: len(prompts[index]))
                for start in range(0, len(indices), self._batch_size):
                    chunk = indices[start : start + self._batch_size]
                    scores = self._label_log_probs([prompts[index] for index in chunk], shared, labels)
                    for index, logs in zip(chunk, scores, strict=True):
                        verdicts[index] = self._verdict(items[index], logs)
        return [verdicts[index] for index in range(len(items))]

    def _render(self, item: JudgeItem) -> list[int]:
        rubric = lettered(item.rubric)
        messages = rubric_messages(item, form=rubric.short_form, letters=rubric.key != "score")
        rendered = self._chat.render_with_spans(messages, add_generation_prompt=True)
        # Skip the reasoning of a model that would think first.
        return [*rendered.token_ids, *(() if rendered.reply is None else rendered.reply.answer_prefix())]

    def _alike(
        self, items: Sequence[JudgeItem], prompts: Mapping[int, list[int]]
    ) -> dict[tuple[str, tuple[int, ...]], list[int]]:
        """Group prompts by rubric and by the beginning that they share, (digest, tokens) -> indices."""
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for index, ids in prompts.items():
            shared = self._shared(items[index])
            # The material may melt into the tokens before it in a way that was not foreseen.
            begins = tuple(ids[: len(shared)]) == shared
            digest = lettered(items[index].rubric).digest
            groups.setdefault((digest, shared if begins else ()), []).append(index)
        return groups

    def _shared(self, item: JudgeItem) -> tuple[int, ...]:
        """Return the tokens that all prompts of an item's rubric begin with, whatever the material."""
        key = (lettered(item.rubric).digest, item.eval_prompt)
        if key not in self._shared_of:
            try:
                one, other = (
                    self._render(JudgeItem(text, text, text, text, text, text, item.eval_prompt, item.rubric))
                    for text in _UNLIKE
                )
            except ChatError:
                # A template may refuse these texts and take others.
                one = other = []
            pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
            # The last of them, such as a space, may be one token with the text after it.
            self._shared_of[key] = tuple(token for token, _ in pairs)[:-1]
        return self._shared_of[key]

    def _label_tokens(self, rubric: Rubric) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        if rubric.digest not in self._tokens_of:
            # Another wording of the 0-3 score is answered by digits, like the built-in one.
            opening = OPENING if rubric.key == "score" else LABEL_OPENING
            labels = LABELS if rubric.key == "score" else [f" {letter(n)}" for n in range(len(rubric.labels))]
            self._tokens_of[rubric.digest] = label_tokens(self._loaded.tokenizer, opening, labels)
        return self._tokens_of[rubric.digest]

    def _unscored(self, item: JudgeItem, kind: str, reason: str) -> Verdict:
        self._errors[kind] += 1
        return Verdict(item.id, None, reason, self.name)

    def _verdict(self, item: JudgeItem, log_probs: Sequence[float]) -> Verdict:
        top = max(log_probs)
        held = math.fsum(math.exp(log - top) for log in log_probs)
        shares = tuple(math.exp(log - top) / held for log in log_probs)
        best = log_probs.index(top)
        together = f"the {len(shares)} labels together hold {held * math.exp(top):.2f}"
        reason = f"probability {shares[best]:.2f}; {together}"
        label = lettered(item.rubric).labels[best]
        index = item.rubric.index(label)
        return Verdict(item.id, index, reason, self.name, probabilities=shares, label=label)

    def _label_log_probs(
        self, prompts: Sequence[list[int]], shared: Sequence[int], labels: Sequence[tuple[int, ...]]
    ) -> list[list[float]]:
        """Return the log-probability of each label after each prompt, [prompts, labels]."""
        if all(len(label) == 1 for label in labels):
            last = self._log_probs(prompts, shared, keep=1)[:, 0]
            return last[:, [label[0] for label in labels]].tolist()
        columns: list[list[float]] = []
        for label in labels:
            steps = self._log_probs([[*ids, *label[:-1]] for ids in prompts], shared, keep=len(label))
            columns.append(steps[:, range(len(label)), label].sum(-1).tolist())
        return [list(row) for row in zip(*columns, strict=True)]

    def _log_probs(self, rows: Sequence[list[int]], shared: Sequence[int], *, keep: int) -> Any:
        """Return log-probabilities at the last ``keep`` positions, [rows, keep, vocabulary] float32."""
        import torch

        with torch.inference_mode():
            states = self._passes.last_states(rows, shared, keep)
            return self._loaded.stack.logits(states).float().log_softmax(-1).cpu()


def _distance(item: JudgeItem, other: JudgeItem) -> float:
    """Return how unlike the prompts of two items are: in length, and beyond that in rubric."""
    if item.rubric is not other.rubric or item.eval_prompt != other.eval_prompt:
        return math.inf
    return abs(_length(item) - _length(other))


def _length(item: JudgeItem) -> int:
    return len(item.description) + len(item.system_prompt) + len(item.question) + len(item.response)
