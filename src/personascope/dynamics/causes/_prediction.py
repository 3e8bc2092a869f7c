"""Prediction of reply positions from user messages: ridge regression on embeddings (section 4).

Scores are computed on held-out rows. They are reported next to the same pipeline on shuffled targets,
baselines from domain and turn alone, and the naive in-sample score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from personascope.dynamics.causes._messages import Group, Messages
from personascope.errors import DynamicsError
from personascope.stats import (
    ALPHAS,
    NAIVE_ALPHA,
    Interval,
    folds_of,
    held_out_means,
    held_out_ridge,
    in_sample_r2,
    json_values,
    means_by,
    splits,
)

Array = np.ndarray
Target = Literal["position", "change"]
"""What to predict: the position of the reply, or its change from the previous reply."""

LEAST_GROUPS = 3
"""Minimum number of groups: one to hold out, and two for the inner folds that choose the penalty."""


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Null distribution of R2: the whole pipeline on shuffled targets.

    Attributes:
        mean: Mean R2 over the shuffles.
        low: Lowest R2 of a shuffle.
        high: Highest R2 of a shuffle.
        count: Number of shuffles.
        p_value: Share of R2 values, the observed one included, that are at least the observed one.
    """

    mean: float
    low: float
    high: float
    count: int
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """How well message embeddings predict one target.

    R2 is 1 minus the squared errors divided by those of the training folds' mean, so 0 means "no better than
    the mean". Its interval resamples the groups of the held-out rows, without refitting.

    Attributes:
        target: Predicted target.
        group: Unit that is held out together.
        held_out: R2 on held-out groups.
        shuffled: Null distribution with targets shuffled between groups and rotated within their dialogues.
        in_sample: R2 on the training rows themselves, at a fixed penalty. It is no evidence.
        baselines: "domain", "turn" or "domain and turn" -> R2 of predicting their training means, on the same
            folds.
        within_domain: R2 after the domain's training mean is subtracted from target and prediction: what the
            messages predict beyond the domain.
        within_shuffled: Null distribution of that R2, with targets shuffled between groups of the same
            domain.
        folds: Number of outer folds.
        alphas: Ridge penalty chosen in each outer fold.
        seen: Share of the held-out messages that occur verbatim in their training folds.
        actual: Target of each row.
        predicted: Held-out prediction of each row.
        rows: Messages of the rows, in the same order.
    """

    target: Target
    group: Group
    held_out: Interval
    shuffled: Shuffled
    in_sample: float
    baselines: Mapping[str, Interval]
    within_domain: Interval
    within_shuffled: Shuffled
    folds: int
    alphas: tuple[float, ...]
    seen: float
    actual: Float[Array, "rows"]
    predicted: Float[Array, "rows"]
    rows: Messages

    def record(self, *, rows: bool = True) -> dict[str, Any]:
        """Return the prediction as JSON values; NaN becomes null.

        Args:
            rows: Whether to include each row's dialogue, domain, turn, target and prediction.
        """
        found: dict[str, Any] = {
            "target": self.target,
            "group": self.group,
            "held_out": asdict(self.held_out),
            "shuffled": asdict(self.shuffled),
            "in_sample": self.in_sample,
            "in_sample_alpha": NAIVE_ALPHA,
            "baselines": {name: asdict(one) for name, one in self.baselines.items()},
            "within_domain": asdict(self.within_domain),
            "within_shuffled": asdict(self.within_shuffled),
            "folds": self.folds,
            "alphas": self.alphas,
            "seen": self.seen,
            "layer": self.rows.layer,
            "empty": self.rows.empty,
        }
        if rows:
            found["rows"] = [
                {"dialogue": dialogue, "domain": domain, "turn": int(turn), "actual": is_, "predicted": said}
                for dialogue, domain, turn, is_, said in zip(
                    self.rows.dialogues,
                    self.rows.domains,
                    self.rows.turns,
                    self.actual.tolist(),
                    self.predicted.tolist(),
                    strict=True,
                )
            ]
        return json_values(found)


def predict_from_messages(
    messages: Messages,
    vectors: Float[Array, "rows width"],
    target: Target,
    *,
    group: Group = "topic",
    folds: int = 5,
    alphas: Sequence[float] = ALPHAS,
    shuffles: int = 100,
    n_boot: int = 2000,
    seed: int = 0,
) -> Prediction:
    """Predict a target from the embeddings of the user's messages, and score it on held-out groups.

    Args:
        messages: Messages of a run.
        vectors: Embeddings of the messages.
        target: Target to predict. "change" leaves out the rows without a previous reply.
        group: Unit to hold out together. Topics by default: an auditor may use one script for several
            personas, so holding out single dialogues would leak their messages into training.
        folds: Number of outer folds, and of inner folds; fewer if there are fewer groups.
        alphas: Ridge penalties to choose from in the inner folds.
        shuffles: Number of repetitions of the pipeline on shuffled targets.
        n_boot: Number of bootstrap draws.
        seed: Random seed of folds, shuffles and bootstrap.

    Raises:
        DynamicsError: If the lengths differ, there are too few groups, the target does not vary, or the
            folds, shuffles or penalties are out of range.
    """
    _check(messages, vectors, folds, alphas, shuffles)
    if target == "change":
        kept = np.flatnonzero(np.isfinite(messages.change))
        messages, vectors = messages.take(kept), vectors[kept]
    y = messages.position if target == "position" else messages.change
    groups = messages.groups(group)
    names = sorted(set(groups))
    if len(names) < LEAST_GROUPS:
        raise DynamicsError(
            f"{len(names)} {group}s with a {target} cannot be split into training and test",
            hint=f"give a run with at least {LEAST_GROUPS}",
        )
    if np.ptp(y) == 0:
        raise DynamicsError(f"the {target} is {y[0]:g} in all {len(y)} rows", hint="give a run that moves")
    rng = np.random.default_rng(seed)
    domains = messages.domains
    fold = folds_of(groups, domains, min(folds, len(names)), rng)
    inner = [_inner(groups, domains, np.flatnonzero(training), folds, rng) for _, training, _ in splits(fold)]

    # Column 0 is the target and the others are its shuffles: once across domains, once within them.
    across = np.column_stack([y, *(_shuffle(y, messages, groups, None, rng) for _ in range(shuffles))])
    within = np.column_stack([y, *(_shuffle(y, messages, groups, domains, rng) for _ in range(shuffles))])
    domain_means = held_out_means(domains, within, fold)

    fit = held_out_ridge(vectors, _Targets(across, within, domains), fold, inner, alphas)
    width = across.shape[1]
    null = held_out_means([0] * len(y), across, fold)
    r2 = _r2(across, fit.predicted[:, :width], null)
    r2_within = _r2(within, fit.predicted[:, width:] + domain_means, domain_means)

    def score(predicted: Array, against: Array) -> Interval:
        return _interval(y, predicted, against, groups, n_boot, seed)

    keys = {
        "domain": domains,
        "turn": messages.turns.tolist(),
        "domain and turn": list(zip(domains, messages.turns.tolist(), strict=True)),
    }
    return Prediction(
        target=target,
        group=group,
        held_out=score(fit.predicted[:, 0], null[:, 0]),
        shuffled=_shuffled(r2),
        in_sample=in_sample_r2(vectors, y),
        baselines={
            name: score(held_out_means(key, y[:, None], fold)[:, 0], null[:, 0]) for name, key in keys.items()
        },
        within_domain=score(fit.predicted[:, width] + domain_means[:, 0], domain_means[:, 0]),
        within_shuffled=_shuffled(r2_within),
        folds=int(fold.max()) + 1,
        alphas=tuple(fit.alphas[:, 0].tolist()),
        seen=_seen(messages.texts, fold),
        actual=y,
        predicted=fit.predicted[:, 0],
        rows=messages,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Targets:
    """Targets of a fold: raw across domains, and minus the domain's training mean within them."""

    across: Float[Array, "rows targets"]
    within: Float[Array, "rows targets"]
    domains: Sequence[str]

    def __call__(self, training: Array) -> Float[Array, "rows all"]:
        return np.hstack([self.across, self.within - means_by(self.domains, self.within, training)])


def _check(messages: Messages, vectors: Array, folds: int, alphas: Sequence[float], shuffles: int) -> None:
    if len(messages) != len(vectors):
        raise DynamicsError(
            f"{len(messages)} messages have {len(vectors)} embeddings", hint="embed these very messages"
        )
    if folds < 2 or shuffles < 1 or not alphas or min(alphas) <= 0:
        raise DynamicsError(
            f"a regression with {folds} folds, {shuffles} shuffles and the strengths {list(alphas)}",
            hint="give at least 2 folds, 1 shuffle and one strength above 0",
        )


def _inner(
    groups: tuple[str, ...], domains: tuple[str, ...], rows: Array, folds: int, rng: np.random.Generator
) -> Int[Array, "some"]:
    names = [groups[row] for row in rows]
    return folds_of(names, [domains[row] for row in rows], min(folds, len(set(names))), rng)


def _shuffle(
    y: Float[Array, "rows"],
    messages: Messages,
    groups: Sequence[str],
    strata: Sequence[str] | None,
    rng: np.random.Generator,
) -> Float[Array, "rows"]:
    """Shuffle targets between groups, permute the dialogues of a group, and rotate each dialogue's turns.

    This keeps the correlation within dialogues and groups. It breaks the link to messages, turns and domains
    (unless the strata are domains). Groups differ in size and are laid end to end, so a group may get the end
    of one and the start of the next.
    """
    layout: dict[str, dict[str, dict[str, list[int]]]] = {}
    for row, (name, dialogue) in enumerate(zip(groups, messages.dialogues, strict=True)):
        stratum = strata[row] if strata is not None else ""
        layout.setdefault(stratum, {}).setdefault(name, {}).setdefault(dialogue, []).append(row)
    dealt = np.empty_like(y)
    for blocks in layout.values():
        names = list(blocks)
        source: list[int] = []
        for at in rng.permutation(len(names)):
            dialogues = list(blocks[names[at]].values())
            for one in rng.permutation(len(dialogues)):
                source += np.roll(dialogues[one], int(rng.integers(len(dialogues[one])))).tolist()
        goal = [row for name in names for rows in blocks[name].values() for row in rows]
        dealt[goal] = y[source]
    return dealt


def _r2(y: Array, predicted: Array, against: Array) -> Float[Array, "targets"]:
    return 1 - ((y - predicted) ** 2).sum(axis=0) / ((y - against) ** 2).sum(axis=0)


def _shuffled(r2: Float[Array, "truth_and_shuffles"]) -> Shuffled:
    rest = r2[1:]
    return Shuffled(
        mean=float(rest.mean()),
        low=float(rest.min()),
        high=float(rest.max()),
        count=len(rest),
        p_value=(1 + int((rest >= r2[0]).sum())) / (1 + len(rest)),
    )


def _interval(
    y: Array, predicted: Array, against: Array, groups: Sequence[str], n_boot: int, seed: int
) -> Interval:
    """Return R2 with a percentile interval over resampled groups, widened for few groups as in `stats`."""
    names = {name: place for place, name in enumerate(sorted(set(groups)))}
    place = np.array([names[name] for name in groups])
    errors = np.bincount(place, (y - predicted) ** 2)
    total = np.bincount(place, (y - against) ** 2)
    estimate = float(1 - errors.sum() / total.sum())
    count = len(names)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n_boot)
    drawn = times @ total
    spread = 1 - (times @ errors)[drawn > 0] / drawn[drawn > 0] - estimate
    low, high = np.quantile(spread, [0.025, 0.975]) * math.sqrt(count / (count - 1))
    return Interval(
        estimate, estimate + min(float(low), 0.0), estimate + max(float(high), 0.0), len(y), count
    )


def _seen(texts: Sequence[str], fold: Array) -> float:
    where: dict[str, set[int]] = {}
    for text, number in zip(texts, fold.tolist(), strict=True):
        where.setdefault(text, set()).add(number)
    return sum(len(where[text]) > 1 for text in texts) / len(texts)
