"""What the user's messages tell of the next reply: ridge regression on their embeddings (section 4).

Every figure is of rows that the fit has not seen. Beside it stand the same pipeline on shuffled targets, what
the domain and the turn tell without any message, and the naive figure on the rows of the fit itself.
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
"""The position of the reply, or that less the position of the reply before."""

LEAST_GROUPS = 3
"""One to hold out, and two to choose a strength between."""


@dataclass(frozen=True, slots=True)
class Shuffled:
    """R2 of the whole pipeline on targets that have nothing to do with the messages.

    Attributes:
        mean: Over the shuffles.
        low: Least of them.
        high: Greatest of them.
        count: Number of shuffles.
        p_value: Share of them, the true one counted among them, that are as high as the true one.
    """

    mean: float
    low: float
    high: float
    count: int
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """How well the embedding of a message predicts one target.

    R2 is 1 less the squared errors over those of the training folds' mean, so that 0 is "knows no more than
    the mean", whatever the folds. Its interval resamples the groups of the held-out rows; the fits
    are not repeated for it.

    Attributes:
        target: What is predicted.
        group: What is held out together.
        held_out: R2 on held-out groups.
        shuffled: The same on targets that were dealt to other groups and turned within their dialogues.
        in_sample: R2 on the very rows of the fit, at a strength that nobody chose. Not evidence.
        baselines: "domain", "turn", "domain and turn" -> R2 of their training means, by the same folds.
        within_domain: R2 of what is left when the domain's training mean is taken from target and
            prediction: what the messages tell beyond the domain.
        within_shuffled: The same on targets that were dealt to other groups of their domain.
        folds: Number of outer folds.
        alphas: Strength chosen in each of them.
        seen: Share of the held-out messages that stand word for word in their training folds.
        actual: The target of each row.
        predicted: Its prediction while held out.
        rows: The rows' messages, in the same order.
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
        """Return all of it as JSON; what cannot be said is null.

        Args:
            rows: With each row's dialogue, turn, target and prediction.
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
    """Predict a target from the embeddings of the user's messages, on groups that were held out.

    Args:
        messages: Rows of a run.
        vectors: Their embeddings.
        target: What to predict. "change" leaves out the rows without a reply before them.
        group: What is held out together. Where an auditor uses the same script for several personas, the
            messages of one topic recur in several dialogues, and dialogues alone would let the fit see
            what it is asked: so topics, unless asked otherwise.
        folds: Outer folds, and inner ones; fewer where there are fewer groups.
        alphas: Strengths to choose from, in the inner folds.
        shuffles: Times that the pipeline is repeated on shuffled targets.
        n_boot: Bootstrap draws.
        seed: Seed of folds, shuffles and draws.

    Raises:
        DynamicsError: If the lengths differ, there are too few groups, the target does not vary, or a number
            of folds, shuffles or strengths makes no sense.
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

    # Columns: the truth, then its shuffles; once across domains, once within them.
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
    """Targets across domains as they are, and within domains less the mean of those in training."""

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
    """Deal the targets of each group to another one, dialogues in another order, each turned by some turns.

    What targets of one dialogue and group have in common stays; what ties them to messages, domain (unless it
    is the stratum) and turn does not. Groups of different sizes are laid end to end, so that a
    group may get the end of one and the start of the next.
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
    """R2 with percentiles over resampled groups, spread as the evaluations' bootstrap is."""
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
