"""Clusters of user messages (k-means on embeddings), ranked by the mean change of position after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from personascope.dynamics.causes._messages import Group, Messages
from personascope.errors import DynamicsError
from personascope.stats import Interval, json_values, mean_interval

Array = np.ndarray

SAMPLE = 4000
"""Maximum number of texts in a silhouette, which holds the distances of all pairs in memory."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster of messages.

    Attributes:
        change: Mean change of position from the reply before a message to the reply to it; the interval
            resamples groups (dialogues by default).
        position: Mean position of the replies to the messages, with the same kind of interval.
        null_low: 2.5% quantile of the mean change when texts are shuffled between clusters.
        null_high: 97.5% quantile of the same.
        p_value: Two-sided p-value: share of shuffles whose mean change lies at least as far from the overall
            mean.
        domains: Domain -> its share of the cluster's rows, largest first.
        n_texts: Number of distinct texts.
        n_dialogues: Number of dialogues that the messages come from.
        nearest: Texts nearest to the centre, nearest first: those of the most frequent domain, then others.
    """

    change: Interval
    position: Interval
    null_low: float
    null_high: float
    p_value: float
    domains: Mapping[str, float]
    n_texts: int
    n_dialogues: int
    nearest: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """All clusters of a run's messages.

    Attributes:
        clusters: Clusters by mean change, lowest first.
        k: Number of clusters, chosen by the highest silhouette.
        silhouettes: Number of clusters -> mean silhouette of the texts.
        spread: Highest minus lowest mean change.
        spread_null: 2.5% and 97.5% quantiles of the spread when texts are shuffled between clusters.
        spread_p_value: Share of shuffles with at least this spread. Unlike a single cluster's p-value, it
            accounts for picking the extreme clusters after the fact.
        shuffles: Number of shuffles.
        labels: Index in ``clusters`` of each row.
        rows: The clustered messages; each has a reply before it.
    """

    clusters: tuple[Cluster, ...]
    k: int
    silhouettes: Mapping[int, float]
    spread: float
    spread_null: tuple[float, float]
    spread_p_value: float
    shuffles: int
    labels: Int[Array, "rows"]
    rows: Messages

    def record(self) -> dict[str, Any]:
        """Return the clusters, without their rows, as JSON values; NaN becomes null."""
        return json_values(
            {
                "clusters": [asdict(one) for one in self.clusters],
                "k": self.k,
                "silhouettes": self.silhouettes,
                "spread": self.spread,
                "spread_null": self.spread_null,
                "spread_p_value": self.spread_p_value,
                "shuffles": self.shuffles,
                "layer": self.rows.layer,
                "rows": len(self.rows),
            }
        )


def cluster_messages(
    messages: Messages,
    vectors: Float[Array, "rows width"],
    *,
    ks: Sequence[int] = tuple(range(2, 13)),
    nearest: int = 5,
    starts: int = 10,
    shuffles: int = 2000,
    group: Group = "dialogue",
    n_boot: int = 2000,
    seed: int = 0,
) -> Clusters:
    """Cluster the messages that have a reply before them, and rank the clusters by mean change.

    A repeated text is clustered once, because its copies would form a cluster with a perfect silhouette. All
    of its rows count in the mean change. The control shuffles texts between clusters, each with all its rows.

    Args:
        messages: Messages of a run; those without a change are left out.
        vectors: Embeddings of all the messages.
        ks: Numbers of clusters to choose from by silhouette; those with too few texts are skipped.
        nearest: Number of nearest texts to report per cluster.
        starts: Number of k-means restarts per number of clusters; the best is kept.
        shuffles: Number of shuffles.
        group: Unit that the intervals resample.
        n_boot: Number of bootstrap draws.
        seed: Random seed of k-means, shuffles and bootstrap.

    Raises:
        DynamicsError: If scikit-learn cannot be imported, the lengths differ, or there are too few texts.
    """
    if len(messages) != len(vectors):
        raise DynamicsError(
            f"{len(messages)} messages have {len(vectors)} embeddings", hint="embed these very messages"
        )
    kept = np.flatnonzero(np.isfinite(messages.change))
    rows, vectors = messages.take(kept), np.asarray(vectors, float)[kept]
    # Texts that differ only in white space and case count as one, since their embeddings are nearly equal.
    names = [" ".join(text.split()).casefold() for text in rows.texts]
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        first.setdefault(name, row)
    place = {name: number for number, name in enumerate(first)}
    text_of = np.array([place[name] for name in names], dtype=int)
    points = vectors[list(first.values())]
    texts = [rows.texts[row] for row in first.values()]

    found, centres, silhouettes = _best(points, ks, starts, seed)
    k = len(centres)
    sums, counts = np.bincount(text_of, rows.change), np.bincount(text_of).astype(float)
    means = _means(found[None], sums, counts, k)[0]
    order = np.argsort(means, kind="stable")
    found, centres, means = np.argsort(order)[found], centres[order], means[order]
    labels = found[text_of]

    rng = np.random.default_rng(seed)
    dealt = rng.permuted(np.tile(found, (shuffles, 1)), axis=1)
    null = _means(dealt, sums, counts, k)
    spread, spreads = float(np.ptp(means)), np.ptp(null, axis=1)
    overall = float(rows.change.mean())
    names_of_groups = rows.groups(group)
    clusters: list[Cluster] = []
    for number in range(k):
        here = np.flatnonzero(labels == number)
        resampled = [names_of_groups[row] for row in here]
        shares = Counter(rows.domains[row] for row in here).most_common()
        members = np.flatnonzero(found == number)
        gaps = ((points[members] - centres[number]) ** 2).sum(axis=1)
        # In a cluster of one domain, a stray text at the centre is no example of it.
        usual = set(text_of[here[[rows.domains[row] == shares[0][0] for row in here]]].tolist())
        stray = np.array([text not in usual for text in members.tolist()])
        far = np.abs(null[:, number] - overall) >= abs(means[number] - overall) * (1 - 1e-9)
        low, high = np.quantile(null[:, number], [0.025, 0.975])
        clusters.append(
            Cluster(
                change=mean_interval(rows.change[here], resampled, n_boot=n_boot, seed=seed),
                position=mean_interval(rows.position[here], resampled, n_boot=n_boot, seed=seed),
                null_low=float(low),
                null_high=float(high),
                p_value=(1 + int(far.sum())) / (1 + shuffles),
                domains={domain: count / len(here) for domain, count in shares},
                n_texts=len(members),
                n_dialogues=len({rows.dialogues[row] for row in here}),
                nearest=tuple(texts[members[i]] for i in np.lexsort((gaps, stray))[:nearest]),
            )
        )
    low, high = np.quantile(spreads, [0.025, 0.975])
    return Clusters(
        clusters=tuple(clusters),
        k=k,
        silhouettes=silhouettes,
        spread=spread,
        spread_null=(float(low), float(high)),
        spread_p_value=(1 + int((spreads >= spread * (1 - 1e-9)).sum())) / (1 + shuffles),
        shuffles=shuffles,
        labels=labels,
        rows=rows,
    )


def _best(
    points: Float[Array, "texts width"], ks: Sequence[int], starts: int, seed: int
) -> tuple[Int[Array, "texts"], Float[Array, "k width"], dict[int, float]]:
    """Run k-means for each k; return labels and centres of the best silhouette, and all silhouettes."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError as error:
        raise DynamicsError(
            f"clusters of messages need scikit-learn, which cannot be imported: {error}",
            hint="pip install 'personascope[embed]'",
        ) from error
    different = len(np.unique(points, axis=0))
    tried = sorted({k for k in ks if 2 <= k < different})
    if not tried:
        raise DynamicsError(
            f"{different} different messages cannot be put into {min(ks, default=0)} clusters or more",
            hint="give a run with more turns, or numbers from 2 to one less than the messages",
        )
    silhouettes: dict[int, float] = {}
    best: tuple[float, Array, Array] | None = None
    for k in tried:
        model = KMeans(k, n_init=starts, random_state=seed).fit(points)  # pyright: ignore[reportArgumentType]
        labels = np.asarray(model.labels_)
        score = float(
            silhouette_score(
                points, labels, sample_size=SAMPLE if len(points) > SAMPLE else None, random_state=seed
            )
        )
        silhouettes[k] = score
        if best is None or score > best[0]:
            best = (score, labels, np.asarray(model.cluster_centers_))
    assert best is not None
    return best[1], best[2], silhouettes


def _means(
    labels: Int[Array, "deals texts"], sums: Float[Array, "texts"], counts: Float[Array, "texts"], k: int
) -> Float[Array, "deals k"]:
    """Return the mean change of each cluster's rows under each shuffle of the texts."""
    table = np.empty((len(labels), k))
    for number in range(k):
        inside = (labels == number).astype(float)
        table[:, number] = inside @ sums / (inside @ counts)
    return table
