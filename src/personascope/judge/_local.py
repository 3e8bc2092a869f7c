"""A judge that reads the score off a local model's next-token probabilities."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personascope.chat import ChatFormat, TranscriptFormat
from personascope.errors import ChatError, JudgeError, UsageError
from personascope.judge._rubric import DIGIT_FORM, rubric_messages
from personascope.judge._types import JudgeItem, JudgeStats, Verdict

if TYPE_CHECKING:
    from personascope.models import LoadedModel

OPENING = "Score:"
LABELS = (" 0", " 1", " 2", " 3")


def label_tokens(
    tokenizer: Any, opening: str, labels: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """Return the tokens that all of ``opening + label`` begin with, and those that tell the labels apart.

    Tokenized together with the opening, because a digit alone may become other tokens than a digit
    after a space.

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
            mend="take another local model as the judge",
        )
    return shared, rest


class LocalJudge:
    """Scores by one forward pass: the label with the highest probability after the rubric's prompt.

    Probabilities are over the four labels alone. Where a label takes several tokens, whole label
    sequences are compared. Calls from several threads take turns; give it a model of its own, never
    one that an engine generates with, because the engine's hooks would act on the judge's passes.

    Args:
        loaded: The model.
        batch_size: Items in a forward pass at most.
        labels: What follows "Score:" for each of the four scores.

    Raises:
        JudgeError: If the model has no chat format, or its tokenizer cannot tell the labels apart.
        UsageError: If ``batch_size`` is below 1 or the labels are not four.
    """

    def __init__(self, loaded: LoadedModel, *, batch_size: int = 8, labels: Sequence[str] = LABELS) -> None:
        """Find the label tokens; nothing is run yet."""
        if batch_size < 1:
            raise UsageError(f"the judge's batch_size is {batch_size}", mend="give 1 or more")
        if len(labels) != 4:
            raise UsageError(f"the judge has {len(labels)} labels", mend="give one for each score, 0 to 3")
        if loaded.chat is None:
            raise JudgeError(
                f"the model {loaded.model_id} has no chat template, so it cannot be asked for a score",
                mend="take an instruct model as the judge",
            )
        self._loaded = loaded
        self._chat: ChatFormat | TranscriptFormat = loaded.chat
        self._batch_size = batch_size
        self._opening, self._labels = label_tokens(loaded.tokenizer, OPENING, labels)
        config: Any = loaded.model.config
        limit = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._limit = int(limit or 0)
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[JudgeItem, asyncio.Future[Verdict]]] = []
        self._tokens = 0
        self._errors: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """``local:MODEL``."""
        return f"local:{self._loaded.model_id}"

    @property
    def stats(self) -> JudgeStats:
        """Tokens that went through the model, and items that could not be scored, by kind."""
        return JudgeStats(prompt_tokens=self._tokens, errors=dict(self._errors))

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item, in a forward pass with others that wait at the same time."""
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        async with self._turn:
            if not future.done():
                # Whoever waited before this item has been served, so it is among the first.
                batch = [entry for entry in self._waiting if not entry[1].cancelled()][: self._batch_size]
                mine = [(item, future)]
                try:
                    verdicts = await asyncio.to_thread(self.score_batch, [entry[0] for entry in batch])
                    mine = batch
                finally:
                    # After an error the others stay, and try again when it is their turn.
                    self._waiting = [entry for entry in self._waiting if entry not in mine]
                for (_, waiting), verdict in zip(batch, verdicts, strict=True):
                    if not waiting.done():
                        waiting.set_result(verdict)
        return await future

    async def aclose(self) -> None:
        """Forget the event loop that the judge was used in."""
        self._turn = asyncio.Lock()
        self._waiting = []

    def score_batch(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Score items, at most ``batch_size`` of them in a forward pass, in their order."""
        verdicts: dict[int, Verdict] = {}
        prompts: dict[int, list[int]] = {}
        longest = max(len(label) for label in self._labels) - 1
        for index, item in enumerate(items):
            try:
                ids = self._chat.render(rubric_messages(item, form=DIGIT_FORM)) + list(self._opening)
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
        indices = list(prompts)
        with self._lock:
            for start in range(0, len(indices), self._batch_size):
                chunk = indices[start : start + self._batch_size]
                scores = self._label_log_probs([prompts[index] for index in chunk])
                for index, logs in zip(chunk, scores, strict=True):
                    verdicts[index] = self._verdict(items[index].id, logs)
        return [verdicts[index] for index in range(len(items))]

    def _unscored(self, item: JudgeItem, kind: str, reason: str) -> Verdict:
        self._errors[kind] += 1
        return Verdict(item.id, None, reason, self.name)

    def _verdict(self, item_id: str, log_probs: Sequence[float]) -> Verdict:
        top = max(log_probs)
        held = math.fsum(math.exp(log - top) for log in log_probs)
        four = tuple(math.exp(log - top) / held for log in log_probs)
        best = log_probs.index(top)
        reason = f"probability {four[best]:.2f}; the four labels together hold {held * math.exp(top):.2f}"
        return Verdict(item_id, best, reason, self.name, probabilities=four)

    def _label_log_probs(self, prompts: Sequence[list[int]]) -> list[list[float]]:
        """Return the log-probability of each label after each prompt, [prompts, 4]."""
        if all(len(label) == 1 for label in self._labels):
            last = self._log_probs(prompts, keep=1)[:, 0]
            return last[:, [label[0] for label in self._labels]].tolist()
        columns: list[list[float]] = []
        for label in self._labels:
            steps = self._log_probs([[*ids, *label[:-1]] for ids in prompts], keep=len(label))
            columns.append(steps[:, range(len(label)), label].sum(-1).tolist())
        return [list(row) for row in zip(*columns, strict=True)]

    def _log_probs(self, rows: Sequence[list[int]], *, keep: int) -> Any:
        """Return log-probabilities at the last positions of each row, [rows, keep, vocabulary] float32."""
        import torch

        device = self._loaded.device
        lengths = [len(row) for row in rows]
        width = max(lengths)
        # Padded on the right, where a causal model cannot see it: positions stay as they are.
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * n + [0] * (width - n) for n in lengths], device=device)
        places = torch.tensor([list(range(n - keep, n)) for n in lengths])
        self._tokens += sum(lengths)
        with torch.inference_mode():
            output: Any = self._loaded.stack.backbone(input_ids=ids, attention_mask=mask, use_cache=False)
            hidden = output.last_hidden_state
            kept = hidden[torch.arange(len(rows))[:, None], places]
            return self._loaded.stack.logits(kept).float().log_softmax(-1).cpu()
