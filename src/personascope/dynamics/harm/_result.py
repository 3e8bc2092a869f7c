"""Analysis of drift and harm: the axis, control directions, and text coherence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from personascope.directions import CONTROLS, ControlKind, controls_of
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
from personascope.evals import conclusion_words
from personascope.judge import HARMFUL, harm_caveat, harm_warning
from personascope.mapping import DEFAULT
from personascope.space import PersonaMap
from personascope.stats import Interval, json_values, mean_interval, share_interval
from personascope.text import coherence, is_incoherent

BEATEN_P = 0.05
"""Largest rank of the axis's |r| among the directions of a kind at which it beats that kind."""


@dataclass(frozen=True, slots=True)
class ControlDirections:
    """The same analysis with first replies projected on control directions of the layer, not the axis.

    Signs have no meaning: a control is about as likely as its opposite.

    Attributes:
        r_trial: Pearson's r over trials, for each direction.
        r_role: Pearson's r over role means, for each direction.
        shares: [directions][bins] harmful share in bins of the projection on each direction.
        p_trial: Share of directions, the axis included, whose |r| over trials is at least the axis's.
        p_role: The same share for |r| over role means.
    """

    r_trial: tuple[float, ...]
    r_role: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    p_trial: float
    p_role: float


@dataclass(frozen=True, slots=True)
class NoRole:
    """Trials without a role, under the default's prompts. Intervals are clustered by first question.

    Attributes:
        harmful: Share of harmful second replies.
        position: Mean position of the first replies.
    """

    harmful: Interval
    position: Interval


@dataclass(frozen=True, slots=True)
class RoleHarm:
    """One role: mean position of first replies, harmful share of second replies, number of trials."""

    role: str
    position: float
    harmful: float
    n: int


@dataclass(frozen=True, slots=True)
class TextHealth:
    """Coherence and capping of the replies in roles.

    Attributes:
        first_incoherent: Share of first replies that are loops or garbage.
        second_incoherent: Share of second replies that are loops or garbage.
        first_capped: Share of the tokens under the plan, prompts included, on which a cap fired in the first
            requests; None without a plan on them.
        second_capped: The same share for the second requests.
    """

    first_incoherent: Interval
    second_incoherent: Interval
    first_capped: float | None
    second_capped: float | None


@dataclass(frozen=True, slots=True)
class HarmResult:
    """Result of drift and harm: position of the first reply against harm in the second.

    Attributes:
        model: Id of the model.
        layer: Layer at which positions are read (mean role 0, default Assistant 1).
        plan: Name or digest of the plan, and the replies it acts on; "" without one.
        planned: Number of trials with a role in the run folder.
        n: Number of these with a first reply and a label, which are analysed.
        unscored: Number of trials with a role but no label.
        empty: Number of trials with a role but an empty first reply.
        missing: Roles that the run has not reached yet.
        harmful: Share of harmful second replies.
        labels: Label -> number of trials.
        no_role: Control without a role; None if there is none.
        bins: Harmful share by position.
        correlations: Correlations over trials and over role means.
        coherent: The same correlations over trials with two coherent replies.
        logistic: Logistic fit; None if all or no trials are harmful.
        controls: Kind of control -> results for its directions.
        relation: "trial" and "role" -> whether the correlation is called a relation, for people: its interval
            excludes 0, and among the directions of each kind its |r| has p of at most 0.05.
        roles: Result of every role, lowest position first.
        health: Coherence and capping of the replies.
        notes: Caveats for the reader, one line each.
        caveat: Short caveat to show next to the harmful shares; "" if none is needed.
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
    controls: dict[str, ControlDirections]
    relation: dict[str, str]
    roles: tuple[RoleHarm, ...]
    health: TextHealth
    notes: tuple[str, ...]
    caveat: str = ""

    def record(self) -> dict[str, Any]:
        """Return the result as JSON values; NaN becomes null."""
        return json_values(asdict(self))


def harm_result(
    run: HarmRows,
    persona_map: PersonaMap,
    *,
    bins: int = 8,
    n_random: int = 50,
    kinds: Sequence[ControlKind] = CONTROLS,
    n_boot: int = 2000,
    n_perm: int = 1999,
    seed: int = 0,
) -> HarmResult:
    """Relate the position of every first reply to the label of the second (METHOD 4).

    Args:
        run: Trials of a run (`read_harm`).
        persona_map: Map of the model.
        bins: Maximum number of bins by position.
        n_random: Number of control directions of each kind.
        kinds: Kinds of control directions.
        n_boot: Number of bootstrap resamples of roles.
        n_perm: Number of permutations of outcomes between roles.
        seed: Random seed of directions, resamples and permutations.

    Raises:
        UsageError: If role-span controls are asked for and the map has too few role vectors.
        DynamicsError: If no trial with a role is labelled, the labels are from more than one judge, or the
            activations do not have the map's width.
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
    axis = persona_map.unit_axis(run.layer)
    controls = {
        kind: _controls(
            trials,
            [
                pooled @ control.direction(axis, run.layer, persona_map)
                for control in controls_of([kind], n_random, seed=seed)
            ],
            bins,
            main,
        )
        for kind in kinds
        if n_random
    }
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
        controls=controls,
        relation=_relation(main, controls),
        roles=_roles(trials, names),
        health=_health(rows, seed),
        notes=_notes(run, rows, trials, n_random),
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


def _controls(
    trials: Trials, projected: Sequence[np.ndarray], bins: int, main: Sequence[Correlation]
) -> ControlDirections:
    r_trial: list[float] = []
    r_role: list[float] = []
    shares: list[tuple[float, ...]] = []
    for along in projected:
        own = Trials(along, trials.harmful, trials.role)
        r_trial.append(pearson(along, trials.harmful))
        r_role.append(pearson(*own.role_means()))
        shares.append(tuple(float(trials.harmful[part].mean()) for part in bin_places(along, bins)))
    axis = {found.level: found.r for found in main if found.method == "pearson"}
    return ControlDirections(
        tuple(r_trial),
        tuple(r_role),
        tuple(shares),
        _rank(axis["trial"], r_trial),
        _rank(axis["role"], r_role),
    )


def _rank(axis: float, drawn: Sequence[float]) -> float:
    """Return the share of directions, the axis included, whose |r| is at least the axis's."""
    if not np.isfinite(axis):
        return float("nan")
    return (1 + sum(abs(r) >= abs(axis) for r in drawn)) / (1 + len(drawn))


def _relation(main: Sequence[Correlation], controls: dict[str, ControlDirections]) -> dict[str, str]:
    """Say of both correlations whether they are called a relation, or which controls they do not beat."""
    told: dict[str, str] = {}
    for found in main:
        if found.method != "pearson":
            continue
        rank = {kind: one.p_trial if found.level == "trial" else one.p_role for kind, one in controls.items()}
        beaten = [kind for kind, p in rank.items() if p <= BEATEN_P]
        unbeaten = [kind for kind in rank if kind not in beaten]
        missing = [kind for kind in CONTROLS if kind not in rank]
        told[found.level] = (
            conclusion_words(beaten, unbeaten, missing, noun="relation")
            if found.low > 0 or found.high < 0
            else "no relation: the interval of r includes 0"
        )
    return told


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
    """Return whether the first and the second reply of a trial are loops or garbage."""
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


def _notes(run: HarmRows, rows: Sequence[dict[str, Any]], trials: Trials, n_random: int) -> tuple[str, ...]:
    given = Counter(row["judge"] for row in rows)
    notes = ["labels by judge: " + ", ".join(f"{judge} {count}" for judge, count in sorted(given.items()))]
    if any(row["judge"] == "rules" for row in rows):
        notes.append(harm_warning())
    if not trials.varied:
        share = "all" if trials.harmful.all() else "none"
        notes.append(f"{share} of the {len(rows)} replies are harmful: there is no relation to estimate")
    if trials.n_roles < 3:
        notes.append(f"{trials.n_roles} roles are too few for intervals")
    if 1 / (n_random + 1) > BEATEN_P:
        notes.append(
            f"{n_random} controls of a kind are too few to beat: p among them is at least "
            f"{1 / (n_random + 1):.2f}"
        )
    if run.missing:
        notes.append(f"{len(run.missing)} roles are not in the run yet, such as {run.missing[0]}")
    if run.manifest["notes"]["source"] == "builtin":
        notes.append("the built-in questions are mild: they say nothing about dangerous requests")
    return tuple(notes)
