"""Kinds of messages, found by k-means on their embeddings and ranked by how far replies move after them."""

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
"""Texts between which silhouettes are measured at most; the distances of all pairs are held at once."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Messages that lie together.

    Attributes:
        change: Mean change of position after them, resampled by dialogue.
        position: Mean position of the replies to them, likewise.
        null_low: 2.5% quantile of the mean change of as many texts that were dealt to the cluster at random.
        null_high: 97.5% quantile.
        p_value: Two-sided share of the deals in which the mean change lies as far from that of all messages.
        domains: Domain -> its share of the cluster's rows, greatest first.
        n_texts: Different texts.
        n_dialogues: Dialogues that they are of.
        nearest: The texts nearest to the centre, near ones first.
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
        clusters: By mean change, the one after which replies fall the most first.
        k: Number of clusters: the one with the highest silhouette.
        silhouettes: Number of clusters -> mean silhouette of the texts.
        spread: Highest mean change less the lowest.
        spread_null: 2.5% and 97.5% quantile of the same when texts are dealt to clusters at random.
        spread_p_value: Share of the deals with as great a spread. The clusters at the ends were
            chosen for being there, and this is the test that allows for it.
        shuffles: Number of deals.
        labels: Place in ``clusters`` of each row.
        rows: The rows, all with a reply before them.
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
        """Return all but the rows as JSON; what cannot be said is null."""
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

    A text that recurs is clustered once: counted as often as a script repeats it, it would be a cluster of
    its own with a perfect silhouette. Its rows all count in the mean change. The control deals texts to
    clusters at random, each with all its rows.

    Args:
        messages: Rows of a run; those without a change are left out.
        vectors: Embeddings of all of them.
        ks: Numbers of clusters to choose from by silhouette; those with too few texts are not tried.
        nearest: Texts to name for each cluster.
        starts: Times that k-means starts anew for each number, the best one kept.
        shuffles: Random deals.
        group: What the intervals resample.
        n_boot: Bootstrap draws.
        seed: Seed of k-means, deals and draws.

    Raises:
        DynamicsError: If scikit-learn cannot be imported, lengths differ, or there are too few texts.
    """
    if len(messages) != len(vectors):
        raise DynamicsError(
            f"{len(messages)} messages have {len(vectors)} embeddings", hint="embed these very messages"
        )
    kept = np.flatnonzero(np.isfinite(messages.change))
    rows, vectors = messages.take(kept), np.asarray(vectors, float)[kept]
    # Two texts that differ in space and case alone are one: to a reader, and nearly so to the embedding.
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
                nearest=tuple(texts[members[i]] for i in np.argsort(gaps, kind="stable")[:nearest]),
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
    """K-means with the number of clusters whose silhouette is highest: labels, centres, silhouettes."""
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
    """Mean change of each cluster's rows under each shuffle of the texts."""
    table = np.empty((len(labels), k))
    for number in range(k):
        inside = (labels == number).astype(float)
        table[:, number] = inside @ sums / (inside @ counts)
    return table
