"""From a run of drift and harm to its result: the axis, random directions beside it, health of the text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from personascope.directions import random_unit
from personascope.dynamics.harm._rows import HarmRows
from personascope.dynamics.harm._statistics import (
    Bin,
    Correlation,
    Logistic,
    Trials,
    bin_places,
    correlations,
    logistic,
    pearson,
    quantile_bins,
)
from personascope.errors import DynamicsError
from personascope.judge import HARMFUL, harm_caveat, harm_warning
from personascope.mapping import DEFAULT
from personascope.space import PersonaMap
from personascope.stats import Interval, json_values, mean_interval, share_interval
from personascope.text import coherence, is_incoherent


@dataclass(frozen=True, slots=True)
class RandomDirections:
    """The same trials, their first replies projected on random directions of the layer instead of the axis.

    A direction is as likely as its opposite, so signs mean nothing here.

    Attributes:
        r_trial: Pearson's coefficient over trials, for each direction.
        r_role: The same over role means.
        shares: [directions][bins] harmful share in bins by the projection on each direction.
        p_trial: Share of directions, the axis among them, whose |r| over trials is at least the axis'.
        p_role: The same over role means.
    """

    r_trial: tuple[float, ...]
    r_role: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    p_trial: float
    p_role: float


@dataclass(frozen=True, slots=True)
class NoRole:
    """The trials without a role, under the default's prompts. The clusters are the first questions.

    Attributes:
        harmful: Share of harmful second replies.
        position: Mean position of the first replies.
    """

    harmful: Interval
    position: Interval


@dataclass(frozen=True, slots=True)
class RoleHarm:
    """One role: mean position of its first replies, share of its second replies that are harmful, trials."""

    role: str
    position: float
    harmful: float
    n: int


@dataclass(frozen=True, slots=True)
class TextHealth:
    """What the text as such is like, roles only.

    Attributes:
        first_incoherent: Share of first replies that are loops or garbage.
        second_incoherent: The same of second replies.
        first_capped: Share of the first replies' tokens, prompts included, on which a cap fired; None
            without a plan on them.
        second_capped: The same of the second replies.
    """

    first_incoherent: Interval
    second_incoherent: Interval
    first_capped: float | None
    second_capped: float | None


@dataclass(frozen=True, slots=True)
class HarmResult:
    """Drift and harm: the position of the first reply against harm in the second.

    Attributes:
        model: The model's id.
        layer: Where positions are read; 0 is the mean role, 1 the default Assistant.
        plan: Name or digest of the plan, and the replies it acts on; "" without one.
        planned: Trials with a role in the run.
        n: Those of them that count: with a first reply and a label.
        unscored: Trials with a role and without a label.
        empty: Trials with a role and without a first reply.
        missing: Roles that the run has not reached.
        harmful: Share of harmful second replies.
        labels: Label -> trials.
        no_role: The control without a role; None if there is none.
        bins: Harmful share by position.
        correlations: Over trials and over role means.
        coherent: The same over trials whose replies are both coherent.
        logistic: The fit; None where all or none are harmful.
        random: Random directions.
        roles: Every role, lowest position first.
        health: Of the text.
        notes: What a reader must know.
        caveat: What must stand beside the harmful shares, in a few words; often "".
    """

    model: str
    layer: int
    plan: str
    planned: int
    n: int
    unscored: int
    empty: int
    missing: tuple[str, ...]
    harmful: Interval
    labels: dict[str, int]
    no_role: NoRole | None
    bins: tuple[Bin, ...]
    correlations: tuple[Correlation, ...]
    coherent: tuple[Correlation, ...]
    logistic: Logistic | None
    random: RandomDirections
    roles: tuple[RoleHarm, ...]
    health: TextHealth
    notes: tuple[str, ...]
    caveat: str = ""

    def record(self) -> dict[str, Any]:
        """Return the result as JSON values; what is not known is null."""
        return json_values(asdict(self))


def harm_result(
    run: HarmRows,
    persona_map: PersonaMap,
    *,
    bins: int = 8,
    n_random: int = 50,
    n_boot: int = 2000,
    n_perm: int = 1999,
    seed: int = 0,
) -> HarmResult:
    """Set the position of every first reply against the label of the second (METHOD 4).

    Args:
        run: The trials (`read_harm`).
        persona_map: The model's map.
        bins: Bins by position at most.
        n_random: Random directions.
        n_boot: Resamples of roles.
        n_perm: Dealings of outcomes between roles.
        seed: Of all of these.

    Raises:
        DynamicsError: If no trial with a role is labelled, the labels are of two judges, or the
            activations are not of the map's model.
    """
    if run.pooled.shape[1:] not in ((persona_map.d_model,), (0,)):
        raise DynamicsError(
            f"the activations in {run.path} have width {run.pooled.shape[1]}, "
            f"the map has {persona_map.d_model}",
            hint="give the map of the model that the run was made with",
        )
    in_role = [place for place, row in enumerate(run.rows) if row["role"] != DEFAULT]
    scored = [place for place in in_role if run.rows[place]["status"] == "scored"]
    if not scored:
        raise DynamicsError(
            f"none of the {len(in_role)} trials with a role in {run.path} is labelled",
            hint="run the same command with a judge",
        )
    rows = [run.rows[place] for place in scored]
    if len(run.judges) > 1:
        raise DynamicsError(
            f"the labels in {run.path} are of {len(run.judges)} judges: {', '.join(run.judges)}",
            hint="run the same command again, so that one of them labels all",
        )
    names = [row["role"] for row in rows]
    harmful = np.array([row["label"] in HARMFUL for row in rows])
    trials = Trials.of(_positions(run, persona_map, scored), harmful, names)
    options = {"n_boot": n_boot, "n_perm": n_perm, "seed": seed}
    main = correlations(trials, **options)
    clean = [place for place, row in enumerate(rows) if not any(_broken(row))]
    coherent: tuple[Correlation, ...] = ()
    if clean:
        kept = Trials.of(trials.position[clean], harmful[clean], [names[place] for place in clean])
        coherent = correlations(kept, **options)
    pooled = run.pooled[scored].astype(np.float64)
    directions = [random_unit(persona_map.d_model, draw, seed=seed) for draw in range(n_random)]
    counted = Counter(run.rows[place]["status"] for place in in_role)
    return HarmResult(
        model=run.manifest["identity"]["model"]["id"],
        layer=run.layer,
        plan=_plan_name(run),
        planned=len(in_role),
        n=len(rows),
        unscored=counted["unscored"],
        empty=counted["empty"],
        missing=run.missing,
        harmful=share_interval(harmful, names, seed=seed),
        labels=dict(sorted(Counter(row["label"] for row in rows).items())),
        no_role=_no_role(run, persona_map, seed),
        bins=quantile_bins(trials, bins, seed=seed),
        correlations=main,
        coherent=coherent,
        logistic=logistic(trials, n_boot=n_boot // 4, seed=seed),
        random=_random(trials, [pooled @ direction for direction in directions], bins, main),
        roles=_roles(trials, names),
        health=_health(rows, seed),
        notes=_notes(run, rows, trials),
        caveat=harm_caveat() if any(row["judge"] == "rules" for row in rows) else "",
    )


def _positions(run: HarmRows, persona_map: PersonaMap, places: Sequence[int]) -> np.ndarray:
    along = run.pooled[list(places)].astype(np.float64) @ persona_map.unit_axis(run.layer).astype(np.float64)
    return np.asarray(persona_map.to_units(along, run.layer), float)


def _plan_name(run: HarmRows) -> str:
    plan = run.manifest["identity"]["plan"]
    if plan is None:
        return ""
    digest, on = plan
    return f"{run.manifest['notes']['plan_name'] or digest[:12]} on {on}"


def _no_role(run: HarmRows, persona_map: PersonaMap, seed: int) -> NoRole | None:
    places = [
        place for place, row in enumerate(run.rows) if row["role"] == DEFAULT and row["status"] == "scored"
    ]
    if not places:
        return None
    rows = [run.rows[place] for place in places]
    asked = [row["question"] for row in rows]
    return NoRole(
        share_interval([row["label"] in HARMFUL for row in rows], asked, seed=seed),
        mean_interval(_positions(run, persona_map, places), asked, seed=seed),
    )


def _random(
    trials: Trials, projected: Sequence[np.ndarray], bins: int, main: Sequence[Correlation]
) -> RandomDirections:
    r_trial: list[float] = []
    r_role: list[float] = []
    shares: list[tuple[float, ...]] = []
    for along in projected:
        own = Trials(along, trials.harmful, trials.role)
        r_trial.append(pearson(along, trials.harmful))
        r_role.append(pearson(*own.role_means()))
        shares.append(tuple(float(trials.harmful[part].mean()) for part in bin_places(along, bins)))
    axis = {found.level: found.r for found in main if found.method == "pearson"}
    return RandomDirections(
        tuple(r_trial),
        tuple(r_role),
        tuple(shares),
        _rank(axis["trial"], r_trial),
        _rank(axis["role"], r_role),
    )


def _rank(axis: float, drawn: Sequence[float]) -> float:
    """Share of directions, the axis among them, that go with harm at least as closely."""
    if not np.isfinite(axis):
        return float("nan")
    return (1 + sum(abs(r) >= abs(axis) for r in drawn)) / (1 + len(drawn))


def _roles(trials: Trials, names: Sequence[str]) -> tuple[RoleHarm, ...]:
    position, share = trials.role_means()
    counts = np.bincount(trials.role)
    ordered = sorted(set(names))
    found = [
        RoleHarm(name, float(position[number]), float(share[number]), int(counts[number]))
        for number, name in enumerate(ordered)
    ]
    return tuple(sorted(found, key=lambda role: (role.position, role.role)))


def _broken(row: dict[str, Any]) -> tuple[bool, bool]:
    """Tell whether the first and the second reply of a trial are loops or garbage."""
    return (
        is_incoherent(coherence(row["first"], prompt=row["question"])),
        is_incoherent(coherence(row["text"], prompt=row["harmful"])),
    )


def _health(rows: Sequence[dict[str, Any]], seed: int) -> TextHealth:
    names = [row["role"] for row in rows]
    broken = [_broken(row) for row in rows]
    return TextHealth(
        share_interval([first for first, _ in broken], names, seed=seed),
        share_interval([second for _, second in broken], names, seed=seed),
        _capped(rows, "first_"),
        _capped(rows, ""),
    )


def _capped(rows: Sequence[dict[str, Any]], which: str) -> float | None:
    acted = sum(row[f"{which}plan_tokens"] or 0 for row in rows)
    return sum(row[f"{which}capped_tokens"] or 0 for row in rows) / acted if acted else None


def _notes(run: HarmRows, rows: Sequence[dict[str, Any]], trials: Trials) -> tuple[str, ...]:
    given = Counter(row["judge"] for row in rows)
    notes = ["labels by judge: " + ", ".join(f"{judge} {count}" for judge, count in sorted(given.items()))]
    if any(row["judge"] == "rules" for row in rows):
        notes.append(harm_warning())
    if not trials.varied:
        share = "all" if trials.harmful.all() else "none"
        notes.append(f"{share} of the {len(rows)} replies are harmful: there is no relation to estimate")
    if trials.n_roles < 3:
        notes.append(f"{trials.n_roles} roles are too few for intervals")
    if run.missing:
        notes.append(f"{len(run.missing)} roles are not in the run yet, such as {run.missing[0]}")
    if run.manifest["notes"]["source"] == "builtin":
        notes.append("the built-in questions are mild: they say nothing about dangerous requests")
    return tuple(notes)
