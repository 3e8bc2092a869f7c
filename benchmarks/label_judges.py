"""Train the offline judge of labels on answers that readers labelled, and measure it on the held-out half.

    python benchmarks/label_judges.py [RUBRIC ...]

`label_answers.py` says what ``labels/RUBRIC.jsonl`` holds. Everything is chosen by cross-validation within
the train half, whole roles (or, without a role, whole questions) left out at a time. The held-out half is
looked at once, by the judge that was chosen. Writes the weights of the judge and ``label_judges.md``.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from label_answers import Answer, agreement, digest_of, kappa_of, read_answers
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from personascope.errors import JudgeError
from personascope.judge import RUBRICS, WEIGHTS, Embedder, JudgeItem, LabelWeights, Rubric
from personascope.judge.classifier._features import HAND, feature_matrix, features_digest
from personascope.judge.classifier._judge import broken, overruled
from personascope.judge.classifier._weights import PROBE
from personascope.store import write_bytes

LABELS = Path(__file__).with_name("labels")
PAGE = Path(__file__).with_suffix(".md")
FOLDS = 5
DRAWS = 2000
UNSEEN = -20.0
"""Log-odds of a label without a single answer to learn from."""

BLOCK_SETS = (
    ("hand",),
    ("hand", "anchors"),
    ("hand", "anchors", "response"),
    ("hand", "anchors", "response", "opening"),
    ("hand", "anchors", "response", "opening", "question", "product"),
)
GAINS = (0.15, 0.3)
"""Weight of an embedding's values against a counted feature, all of them standardized."""
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""C of the logistic regression: higher trusts the training answers more."""
CLASS_WEIGHTS = (None, "balanced")


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation chooses."""

    blocks: tuple[str, ...]
    gain: float
    strength: float
    class_weight: str | None


def train(answers: Sequence[Answer], rubric: Rubric, embedder: Embedder) -> LabelWeights:
    """Choose by cross-validation, train on the whole train half, and measure on the held-out half.

    Raises:
        JudgeError: If the train half has answers of fewer than two labels, or a half is empty.
    """
    learn = [answer for answer in answers if answer.half == "train"]
    held = [answer for answer in answers if answer.half == "held_out"]
    # What the rule for nonsense decides never reaches the classifier, so it learns from the rest.
    kept = [number for number, answer in enumerate(learn) if broken(answer.item) is None]
    if not held or len({learn[number].label for number in kept}) < 2:
        raise JudgeError(
            f"the labelled answers of {rubric.name!r} have {len(learn)} to train on and {len(held)} held out",
            hint="label answers of at least two labels in the train half, and some in the held-out half",
        )
    blocks = {
        name: feature_matrix([answer.item for answer in learn], embedder.encode, (name,))
        for name in dict.fromkeys(itertools.chain(*BLOCK_SETS))
    }
    # The matrices are small: threads would wait for each other longer than they work.
    with threadpool_limits(1):
        choice, kappa, tried = choose(learn, kept, blocks, rubric)
        ready = Ready.of(
            np.concatenate([blocks[name][kept] for name in choice.blocks], axis=1),
            gains(blocks, choice.blocks, choice.gain),
        )
        labels = np.array([rubric.index(learn[number].label) for number in kept])
        weight, bias = ready.fit(labels, choice, len(rubric.labels))
    weights = LabelWeights(
        rubric=rubric.name,
        rubric_digest=rubric.digest,
        labels=rubric.labels,
        features_digest=features_digest(rubric),
        embedding=embedder.name,
        blocks=choice.blocks,
        # As they are written, so that the figures are those of the file.
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        probe=embedder.encode([PROBE])[0],
    )
    judged = judged_by(weights, [answer.item for answer in held], rubric, embedder)
    facts = {
        "training_digest": digest_of(learn),
        "held_out_digest": digest_of(held),
        "train": {"answers": len(learn), "labels": dict(Counter(answer.label for answer in learn))},
        "choice": {
            "blocks": list(choice.blocks),
            "gain": choice.gain,
            "C": choice.strength,
            "class_weight": choice.class_weight or "none",
            "kappa": kappa,
            "tried": tried,
        },
        "held_out": figures(held, judged, learn, rubric),
        "readers": agreement(answers, rubric),
        "models": sorted({answer.model for answer in answers}),
    }
    return replace(weights, facts=facts)


def choose(
    learn: Sequence[Answer],
    kept: Sequence[int],
    blocks: dict[str, NDArray[np.float32]],
    rubric: Rubric,
) -> tuple[Choice, float, int]:
    """Return the choice with the highest kappa over left-out folds, its kappa, and how many were tried.

    Ties go to the lower log-loss.
    """
    n = len(rubric.labels)
    labels = np.array([rubric.index(answer.label) for answer in learn])
    folds = folds_of([learn[number] for number in kept], labels[list(kept)])
    ruled = np.full((len(learn), n), 1.0 / n)
    for number in set(range(len(learn))) - set(kept):
        ruled[number] = overruled(ruled[number], rubric)
    shares: dict[Choice, NDArray[np.float64]] = {}
    for names, gain in itertools.product(BLOCK_SETS, GAINS):
        if names == ("hand",) and gain != GAINS[0]:
            continue
        features = np.concatenate([blocks[name] for name in names], axis=1)
        for inside, outside in folds:
            chosen, left = [kept[place] for place in inside], [kept[place] for place in outside]
            ready = Ready.of(features[chosen], gains(blocks, names, gain))
            for strength, class_weight in itertools.product(STRENGTHS, CLASS_WEIGHTS):
                choice = Choice(names, gain, strength, class_weight)
                weight, bias = ready.fit(labels[chosen], choice, n)
                shares.setdefault(choice, ruled.copy())[left] = softmax(features[left] @ weight.T + bias)
    scored = {
        choice: (kappa_of(labels, held.argmax(1), n), -log_loss(labels, held.clip(1e-9), labels=range(n)))
        for choice, held in shares.items()
    }
    best = max(scored, key=lambda choice: scored[choice])
    return best, scored[best][0], len(scored)


def folds_of(answers: Sequence[Answer], labels: NDArray[np.int64]) -> list[tuple[Any, Any]]:
    """Return (inside, outside) places of each fold; no group is on both sides where there are two groups."""
    groups = [answer.group for answer in answers]
    count = min(FOLDS, len(set(groups)))
    with warnings.catch_warnings():
        # A label with fewer answers than folds is missing in some, which is no fault.
        warnings.filterwarnings("ignore", message="The least populated class")
        if count < 2:
            splitter = StratifiedKFold(min(FOLDS, len(answers)), shuffle=True, random_state=0)
            folds = list(splitter.split(labels, labels))
        else:
            splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
            folds = list(splitter.split(labels, labels, groups))
    return [fold for fold in folds if len(fold[1]) and len(set(labels[fold[0]])) > 1]


def gains(blocks: dict[str, NDArray[np.float32]], names: Sequence[str], gain: float) -> NDArray[np.float64]:
    """Return the weight of each feature, [features]: 1 for a counted one, the gain for one of embeddings."""
    return np.concatenate([np.full(blocks[name].shape[1], 1.0 if name == "hand" else gain) for name in names])


@dataclass(frozen=True, slots=True)
class Ready:
    """Standardized features in the coordinates of their own answers.

    The weights of a ridge-like penalty lie in the span of the answers, so a fit there is the fit on all
    features, with fewer columns.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]
    basis: NDArray[np.float64]
    rows: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.float32], weight: NDArray[np.float64]) -> Ready:
        """Standardize features [answers, features], and weigh them."""
        mean, spread = features.mean(0, dtype=float), features.std(0, dtype=float)
        # A feature that never moved says nothing; its weight is 0.
        factor = np.where(spread > 1e-6, weight / np.maximum(spread, 1e-6), 0.0)
        left, size, basis = np.linalg.svd((features - mean) * factor, full_matrices=False)
        kept = size > 1e-9 * size.max()
        return cls(mean, factor, basis[kept], left[:, kept] * size[kept])

    def fit(
        self, labels: NDArray[np.int64], choice: Choice, n: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight [labels, features] and bias [labels], on features as they come."""
        model = LogisticRegression(C=choice.strength, class_weight=choice.class_weight, max_iter=3000)
        model.fit(self.rows, labels)
        weight = np.zeros((n, self.basis.shape[1]))
        bias = np.full(n, UNSEEN)
        seen = [int(label) for label in model.classes_]
        if len(seen) == 2:
            # The library keeps one row for two labels: the odds of the second against the first.
            weight[seen[1]] = (model.coef_ @ self.basis)[0]
            bias[seen[0]], bias[seen[1]] = 0.0, model.intercept_[0]
        else:
            weight[seen], bias[seen] = model.coef_ @ self.basis, model.intercept_
        weight *= self.factor
        return weight, bias - weight @ self.mean


def softmax(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of log-odds, row by row."""
    shares = np.exp(odds - odds.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def judged_by(
    weights: LabelWeights, items: Sequence[JudgeItem], rubric: Rubric, embedder: Embedder
) -> list[int]:
    """Return the judge's labels of items, as `EmbeddingJudge` gives them, before its weights are written."""
    shares = weights.probabilities(feature_matrix(items, embedder.encode, weights.blocks))
    return [
        int((row if broken(item) is None else overruled(row, rubric)).argmax())
        for item, row in zip(items, shares, strict=True)
    ]


def figures(
    held: Sequence[Answer], judged: Sequence[int], learn: Sequence[Answer], rubric: Rubric
) -> dict[str, Any]:
    """Return what the held-out half shows of the judge."""
    names = rubric.labels
    read = np.array([rubric.index(answer.label) for answer in held])
    guess = np.array(judged)
    table = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(table, (read, guess), 1)
    majority = Counter(answer.label for answer in learn).most_common(1)[0][0]
    low, high = interval(read, guess, [answer.group for answer in held], len(names))
    models = sorted({answer.model for answer in held})
    by_model = {
        model: float(np.mean([guess[n] == read[n] for n, answer in enumerate(held) if answer.model == model]))
        for model in models
    }
    shared = {answer.group for answer in learn}
    return {
        "answers": len(held),
        "groups": len({answer.group for answer in held}),
        "groups_shared_with_training": len({answer.group for answer in held} & shared),
        "accuracy": float((read == guess).mean()),
        "majority": majority,
        "majority_accuracy": float((read == rubric.index(majority)).mean()),
        "kappa": kappa_of(read, guess, len(names)),
        "kappa_low": low,
        "kappa_high": high,
        "accuracy_by_model": by_model,
        "table": table.tolist(),
    }


def interval(
    read: NDArray[np.int64], guess: NDArray[np.int64], groups: Sequence[str], n: int
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of kappa, whole groups drawn, since answers of a role are alike."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]
    draws = []
    for _ in range(DRAWS):
        pick = np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))])
        draws.append(kappa_of(read[pick], guess[pick], n))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def section(weights: LabelWeights) -> list[str]:
    """Return the lines of the page on one rubric, from what its weights tell of their training."""
    facts, names = weights.facts, weights.labels
    held, choice, readers = facts["held_out"], facts["choice"], facts["readers"]
    table = np.array(held["table"])
    lines = [
        f"## {weights.rubric}",
        "",
        f"{facts['train']['answers']} answers to train on, {held['answers']} held out, of "
        f"{', '.join(facts['models'])}. {held['groups']} roles or questions are in the held-out half, "
        f"{held['groups_shared_with_training']} of them in the other half too.",
        "",
        f"Chosen among {choice['tried']} by kappa over left-out roles ({choice['kappa']:.2f}): "
        f"{', '.join(choice['blocks'])}; gain {choice['gain']}, C {choice['C']}, class weights "
        f"{choice['class_weight']}.",
        "",
        "| held-out half | n | equal | Cohen's kappa | 95% |",
        "|---|---|---|---|---|",
        f"| judge and readers | {held['answers']} | {held['accuracy']:.3f} | {held['kappa']:.2f} | "
        f"{held['kappa_low']:.2f} to {held['kappa_high']:.2f} |",
        f"| always `{held['majority']}` and readers | {held['answers']} | "
        f"{held['majority_accuracy']:.3f} | 0.00 | |",
    ]
    if readers["answers"]:
        lines.append(
            f"| reader and reader, both halves | {readers['answers']} | {readers['accuracy']:.3f} | "
            f"{readers['kappa']:.2f} | |"
        )
    if len(held["accuracy_by_model"]) > 1:
        parts = [f"{model} {share:.3f}" for model, share in held["accuracy_by_model"].items()]
        lines += ["", f"Equal by model: {', '.join(parts)}."]
    lines += ["", "| label | trained on | read | judged | precision | recall |", "|---|---|---|---|---|---|"]
    for index, name in enumerate(names):
        hit, read, judged = table[index, index], table[index].sum(), table[:, index].sum()
        precision = f"{hit / judged:.2f}" if judged else ""
        recall = f"{hit / read:.2f}" if read else ""
        learnt = facts["train"]["labels"].get(name, 0)
        lines.append(f"| {name} | {learnt} | {read} | {judged} | {precision} | {recall} |")
    lines += ["", "Read (rows) against judged (columns):", "", f"| read | {' | '.join(names)} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    lines += [f"| {name} | {' | '.join(map(str, table[i]))} |" for i, name in enumerate(names)]
    return [*lines, ""]


def page(folder: Path = WEIGHTS) -> str:
    """Return the page with the figures of all weights in a folder."""
    lines = [
        "# The offline judge of labels against readers",
        "",
        "`python benchmarks/label_judges.py`, on `benchmarks/labels/`",
        "",
        f"A multinomial logistic regression on {len(HAND)} counted signs and on sentence embeddings; text",
        "that says nothing by its form (loops, garble) is known by rule. All choices are made by",
        "cross-validation within the train half; the held-out half is measured once. The interval draws",
        "whole roles.",
        "",
    ]
    for name in RUBRICS:
        if (folder / f"{name}.safetensors").is_file():
            lines += section(LabelWeights.load(folder / f"{name}.safetensors"))
    return "\n".join(lines).rstrip("\n") + "\n"


def main(
    names: Sequence[str] = (), *, labels: Path = LABELS, weights: Path = WEIGHTS, out: Path = PAGE
) -> list[str]:
    """Train and measure the rubrics named, or all with labelled answers; return those that were trained.

    Raises:
        JudgeError: If a rubric named has no labelled answers, or they cannot be learnt from.
    """
    there = [name for name in RUBRICS if (labels / f"{name}.jsonl").is_file()]
    missing = [name for name in names if name not in there]
    if missing or not there:
        raise JudgeError(
            f"there are no labelled answers for {', '.join(missing) or 'any rubric'} in {labels}",
            hint=f"there are some for: {', '.join(there) or 'none'}",
        )
    embedder = Embedder()
    weights.mkdir(parents=True, exist_ok=True)
    for name in names or there:
        rubric = RUBRICS[name]
        learnt = train(read_answers(labels / f"{name}.jsonl", rubric), rubric, embedder)
        learnt.save(weights / f"{name}.safetensors")
        held = learnt.facts["held_out"]
        print(
            f"{name}: equal {held['accuracy']:.3f} (always the same {held['majority_accuracy']:.3f}), "
            f"kappa {held['kappa']:.2f} ({held['kappa_low']:.2f} to {held['kappa_high']:.2f})"
        )
    write_bytes(out, page(weights).encode())
    return list(names or there)


if __name__ == "__main__":
    main(sys.argv[1:])
