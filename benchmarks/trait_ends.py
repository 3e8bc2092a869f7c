"""Which traits lie at the ends of the axis, beside the paper's, and do two models agree on them?

The paper names three traits at the Assistant's end and three at the other. They and others, drawn by group,
are asked of maps of two models with the same prompts, questions and seed:

    python benchmarks/trait_ends.py draw 48 3001            # prints the traits, for --traits
    personascope traits RUN --traits LIST --n 48 --profile quick --seed 3001 --judge none --anyway
    python benchmarks/trait_ends.py compare RUN RUN         # writes trait_ends.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from personascope import api
from personascope.corpus import load_traits
from personascope.space import MapTraits, PersonaMap, TraitPlace

PAGE = Path(__file__).with_suffix(".md")
TOWARD = ("transparent", "grounded", "flexible")
AWAY = ("enigmatic", "subversive", "dramatic")
DRAWS = 10_000
ENDS = 6


def draw(count: int, seed: int) -> list[str]:
    """Return the six traits of the paper and as many others as are wanted, spread over the groups."""
    rng = np.random.default_rng(seed)
    groups: dict[str, list[str]] = {}
    for trait in load_traits().traits:
        if trait.name not in (*TOWARD, *AWAY):
            groups.setdefault(trait.group, []).append(trait.name)
    total = sum(map(len, groups.values()))
    # Every trait of a group has a place in 0 to 1 that is as even as the group is large.
    places = {
        name: (rank + rng.random()) / len(names)
        for names in groups.values()
        for rank, name in enumerate(rng.permutation(names).tolist())
    }
    others = sorted(places, key=lambda name: places[name])[: min(count, total) - 6]
    return sorted([*TOWARD, *AWAY, *others])


def bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """Return the 95% interval of a statistic of drawn places."""
    rng = np.random.default_rng(0)
    low, high = np.nanquantile([statistic(rng.integers(n, size=n)) for _ in range(DRAWS)], [0.025, 0.975])
    return float(low), float(high)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def contrast(places: dict[str, TraitPlace]) -> str:
    """Return the mean cosine of the paper's three at the Assistant's end less that of its other three."""
    names = list(places)
    cosines = np.array([places[name].cosine for name in names])
    sides = [[names.index(name) for name in end if name in places] for end in (TOWARD, AWAY)]
    if not all(sides):
        return "-"
    value = cosines[sides[0]].mean() - cosines[sides[1]].mean()
    # The intervals of single traits, taken as independent.
    spread = [(places[name].high - places[name].low) / 2 for name in names]
    half = np.sqrt(sum(np.square([spread[k] for k in side]).sum() / len(side) ** 2 for side in sides))
    rng, passed = np.random.default_rng(0), 0
    for _ in range(DRAWS):
        drawn = rng.permutation(cosines)
        passed += drawn[: len(sides[0])].mean() - drawn[len(sides[0]) :][: len(sides[1])].mean() >= value
    return f"{value:+.2f} ({value - half:+.2f} to {value + half:+.2f}), p = {(1 + passed) / (1 + DRAWS):.3f}"


def line(place: TraitPlace) -> str:
    """Return a trait with its cosine and interval."""
    return f"{place.name} {place.cosine:+.2f} ({place.low:+.2f} to {place.high:+.2f})"


def the_set(run: str) -> tuple[PersonaMap, MapTraits]:
    """Return a run's map and its only set of traits."""
    found = api.open_map(run)
    (traits,) = found.traits
    return found, traits


def compare(runs: list[str]) -> None:
    """Write the page of two runs or more."""
    sets = [the_set(run) for run in runs]
    models = [found.model.id.split("/")[-1] for found, _ in sets]
    places = [{place.name: place for place in traits.places(found.middle_layer)} for found, traits in sets]
    head = f"| | {' | '.join(models)} |"
    rule = "|---" * (len(models) + 1) + "|"
    lines = [
        "# Traits at the ends of the axis",
        "",
        f"`python benchmarks/trait_ends.py`; the design stands there. `{sets[0][1].record.profile.name}`, "
        f"{sets[0][1].record.profile.questions} questions, seed {sets[0][1].record.profile.seed}.",
        "",
        head,
        rule,
        "| layer | " + " | ".join(str(found.middle_layer) for found, _ in sets) + " |",
        "| verdict on the map | " + " | ".join(found.verdict().headline for found, _ in sets) + " |",
        "| traits with a vector | " + " | ".join(str(len(one)) for one in places) + " |",
        "| pairs kept | "
        + " | ".join(
            f"{sum(p.kept for p in one.values())} of {sum(p.pairs for p in one.values())}" for one in places
        )
        + " |",
        "| scores | "
        + " | ".join(
            "none: a difference without a score"
            if traits.min_difference is None
            else ", ".join(traits.record.judges)
            for _, traits in sets
        )
        + " |",
        "| median of the reliable share | "
        + " | ".join(f"{np.nanmedian([p.reliability for p in one.values()]):.0%}" for one in places)
        + " |",
        "| beyond the permuted poles | "
        + " | ".join(f"{sum(abs(p.cosine) > p.null for p in one.values())} of {len(one)}" for one in places)
        + " |",
        "| beyond contrasts of any prompts | "
        + " | ".join(
            f"{sum(abs(p.cosine) > traits.mixed_q95(found.middle_layer) for p in one.values())} of {len(one)}"
            f" (|cosine| > {traits.mixed_q95(found.middle_layer):.2f})"
            for (found, traits), one in zip(sets, places, strict=True)
        )
        + " |",
        "",
        "## The paper's six",
        "",
        "Cosine with the axis (95% over prompts and questions) and rank, 1 nearest to the Assistant.",
        "",
        f"| trait | the paper's end | {' | '.join(models)} |",
        "|---" * (len(models) + 2) + "|",
    ]
    for name in (*TOWARD, *AWAY):
        cells = [
            f"{one[name].cosine:+.2f} ({one[name].low:+.2f} to {one[name].high:+.2f}), "
            f"{list(one).index(name) + 1} of {len(one)}"
            if name in one
            else "no vector"
            for one in places
        ]
        lines.append(f"| {name} | {'Assistant' if name in TOWARD else 'other'} | {' | '.join(cells)} |")
    lines += [
        f"| three less three | | {' | '.join(contrast(one) for one in places)} |",
        "",
        "The interval of the last row takes the traits as independent; its p is the share of draws of any "
        "six traits with as great a contrast.",
        "",
        "## The ends",
        "",
        f"| end | {' | '.join(models)} |",
        rule,
        "| Assistant | " + " | ".join("; ".join(map(line, [*one.values()][:ENDS])) for one in places) + " |",
        "| other | "
        + " | ".join("; ".join(map(line, [*one.values()][: -ENDS - 1 : -1])) for one in places)
        + " |",
        "",
        "## Agreement",
        "",
        "Rank correlation of the traits' cosines, 95% over traits, [95% quantile with the names permuted], p "
        "on one side.",
        "",
        "| maps | traits of both | Spearman | p |",
        "|---|---|---|---|",
    ]
    for i in range(len(places)):
        for j in range(i):
            both = sorted(set(places[i]) & set(places[j]))
            a, b = (np.array([places[k][name].cosine for name in both]) for k in (j, i))
            value = spearman(a, b)
            low, high = bootstrap(lambda pick, a=a, b=b: spearman(a[pick], b[pick]), len(both))
            rng = np.random.default_rng(1)
            null = np.array([spearman(rng.permutation(a), b) for _ in range(DRAWS)])
            p = (1 + (null >= value).sum()) / (1 + DRAWS)
            lines.append(
                f"| {models[j]} and {models[i]} | {len(both)} | {value:.2f} ({low:.2f} to {high:.2f}) "
                f"[{np.quantile(null, 0.95):.2f}] | {p:.4f} |"
            )
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["draw"] and len(sys.argv) == 4:
        print(",".join(draw(int(sys.argv[2]), int(sys.argv[3]))))
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) > 3:
        compare(sys.argv[2:])
    else:
        sys.exit(__doc__)
