"""Collection of a report's data from a map and its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from personascope.corpus import Corpus, RoleEntry, load_corpus
from personascope.errors import UsageError
from personascope.report.map_page._data import Answer, Curves, Figure, Point, ReportData, Role
from personascope.report.map_page._layers import layer_views
from personascope.report.map_page._results import (
    NO_RESULTS,
    ResultFiles,
    evaluations_of,
    monitor_of,
    sweep_of,
    talks_of,
)
from personascope.report.map_page._samples import Answers, cut, read_answers, rollout_files, text_limit
from personascope.report.map_page._traits import trait_rows
from personascope.space import PersonaMap, SpaceStats

DEFAULT = "default"
LABELS = ("score 3", "score 2", "score 1", "score 0", "default", "unjudged", "unscored", "empty")


def collect(
    map: PersonaMap,
    run_folder: Path | None,
    *,
    samples_per_role: int = 3,
    corpus: Corpus | None = None,
    results: ResultFiles = NO_RESULTS,
) -> ReportData:
    """Collect the data of a report.

    Args:
        map: Map to report.
        run_folder: Run folder of the map, for sample answers. With None, or a folder without rollouts, the
            report notes that it has none.
        samples_per_role: Number of sample answers per role.
        corpus: Corpus of the map, for groups and descriptions; by default the built-in one if it is the
            map's, else none.
        results: Results of the run to show with the map.

    Raises:
        UsageError: If the corpus is not the map's, or ``samples_per_role`` is negative.
        StoreError: If the map, a rollout file or a file of results is damaged.
    """
    if samples_per_role < 0:
        raise UsageError(f"samples_per_role is {samples_per_role}", hint="use 0 or more")
    corpus = _corpus_of(map, corpus)
    files = [] if run_folder is None else rollout_files(run_folder)
    answers = read_answers(files, samples_per_role)
    entries = {} if corpus is None else {role.name: role for role in corpus.roles}
    stats, middle = map.stats, map.middle_layer
    counts = map.counts
    roles = [
        _role(
            name,
            entries,
            answers,
            counts,
            samples_per_role,
            point=_point(stats.loadings[place]),
            projection=float(stats.projections[middle, place]),
            interval=stats.projection_interval[place],
        )
        for place, name in enumerate(map.roles)
    ]
    roles += [_role(name, entries, answers, counts, samples_per_role) for name in map.excluded]
    default = _role(
        DEFAULT,
        entries,
        answers,
        counts,
        samples_per_role,
        point=_point(stats.default_loadings),
        projection=float(stats.default_projection[middle]),
    )
    limit = text_limit(sample for role in (*roles, default) for sample in role.samples)
    default, *roles = [
        replace(role, samples=tuple(cut(one, limit) for one in role.samples)) for role in (default, *roles)
    ]
    return ReportData(
        model=map.model.id,
        revision=map.model.revision or "",
        corpus="" if corpus is None else f"{corpus.name} {corpus.version}".strip(),
        corpus_digest=map.corpus_digest,
        responses=sum(sum(row.values()) for row in counts.values()),
        n_layers=map.n_layers,
        d_model=map.d_model,
        middle_layer=middle,
        figures=_figures(stats, middle),
        variance=_floats(stats.variance_ratio[middle]),
        curves=Curves(
            _floats(stats.cos_axis_pc1),
            _floats(stats.cos_axis_pc1_interval[:, 0]),
            _floats(stats.cos_axis_pc1_interval[:, 1]),
            _floats(stats.null_q95),
            _floats(stats.split_half),
        ),
        default=default,
        axis=_point(map.components(middle).astype(np.float64) @ map.unit_axis(middle).astype(np.float64)),
        roles=tuple(roles),
        methods=_methods(map, judged="unjudged" not in {k for a in answers.values() for k in a.counts}),
        warnings=_warnings(map),
        samples_note="" if files else _no_samples(run_folder),
        verdict=_verdict(map),
        design=map.design,
        layers=layer_views(map),
        evaluations=evaluations_of(results),
        sweep=sweep_of(results.sweep),
        steering=sweep_of(results.steering),
        talks=talks_of(results),
        monitor=monitor_of(results),
        **trait_rows(map),
    )


def _corpus_of(map: PersonaMap, corpus: Corpus | None) -> Corpus | None:
    if corpus is None:
        builtin = load_corpus()
        return builtin if builtin.digest == map.corpus_digest else None
    if corpus.digest != map.corpus_digest:
        raise UsageError(
            f"the corpus {corpus.name!r} ({corpus.digest[:12]}) is not the one of the map "
            f"({map.corpus_digest[:12]})",
            hint="give the corpus that the map was made with, or none",
        )
    return corpus


def _no_samples(run_folder: Path | None) -> str:
    if run_folder is None:
        return "This report was made without the run's responses, so there are no sample answers."
    return f"There are no rollouts in the folder {run_folder.name}, so there are no sample answers."


def _role(
    name: str,
    entries: Mapping[str, RoleEntry],
    answers: Mapping[str, Answers],
    counts: Mapping[str, Mapping[str, int]],
    limit: int,
    *,
    point: Point | None = None,
    projection: float | None = None,
    interval: Any = (None, None),
) -> Role:
    entry, found = entries.get(name), answers.get(name)
    if found is None:
        shown = {label: n for label, n in counts.get(name, {}).items() if n}
    else:
        order = {label: place for place, label in enumerate(LABELS)}
        shown = dict(sorted(found.counts.items(), key=lambda pair: order.get(pair[0], len(order))))
    low, high = (None if end is None else float(end) for end in interval)
    return Role(
        name=name,
        group=entry.group if entry else "",
        description=entry.description if entry else "",
        point=point,
        projection=projection,
        low=low,
        high=high,
        counts=shown,
        samples=found.samples(limit) if found else (),
    )


def _verdict(map: PersonaMap) -> tuple[Answer, ...]:
    return tuple(
        Answer(question, finding.grade, finding.reasons) for question, finding in map.verdict().answers
    )


def _figures(stats: SpaceStats, middle: int) -> tuple[Figure, ...]:
    cosine, position = stats.cos_axis_pc1_interval[middle], stats.default_position_interval[0]
    split = stats.split_half_range[middle]
    return (
        Figure(
            "cos(axis, PC1)",
            float(stats.cos_axis_pc1[middle]),
            float(cosine[0]),
            float(cosine[1]),
            "How far the Assistant Axis is the main direction in which roles differ. The interval is "
            "of the cosine without noise, which turns both apart.",
        ),
        Figure(
            "Null of the cosine",
            float(stats.null_q95[middle]),
            note="95% quantile when random role responses pose as the default. The cosine must lie above it.",
        ),
        Figure(
            "Split half",
            float(stats.split_half[middle]),
            float(split[0]),
            float(split[1]),
            "Median cosine between the axes of two halves of the questions.",
            interval="range",
        ),
        *_found_again(stats, middle),
        Figure(
            "Default on PC1",
            float(stats.default_position[middle, 0]),
            float(position[0]),
            float(position[1]),
            "Its place among the roles: 0 is the lowest role, 1 the highest (nearest the Assistant's end).",
        ),
    )


def _found_again(stats: SpaceStats, middle: int) -> tuple[Figure, ...]:
    value = float(stats.role_reliability[middle])
    if np.isnan(value):
        return ()
    low, high = _floats(stats.role_reliability_interval[middle])
    note = "Share of the roles' spread on the axis that other prompts and questions would find again."
    return (Figure("Roles found again", value, low, high, note),)


def _warnings(map: PersonaMap) -> tuple[str, ...]:
    stats, middle = map.stats, map.middle_layer
    found = list(map.verdict().warnings)
    cosine, bar = float(stats.cos_axis_pc1[middle]), float(stats.null_q95[middle])
    if not cosine > bar:
        found.append(
            f"cos(axis, PC1) at the middle layer ({cosine:.2f}) is not above its null ({bar:.2f}): "
            "this map does not show that the axis is the main direction among roles."
        )
    unscored = sum(row.get("unscored", 0) for row in map.counts.values())
    if unscored:
        found.append(f"{unscored} responses have no score and are in no vector.")
    if map.excluded:
        noun = "role has" if len(map.excluded) == 1 else "roles have"
        found.append(
            f"{len(map.excluded)} {noun} fewer than {map.minimums[0]} responses fully in the role"
            + (" that played it" if map.checks is not None and map.checks.vectors == "played" else "")
            + ", and so no vector."
        )
    return tuple(found)


def _methods(map: PersonaMap, *, judged: bool) -> tuple[str, ...]:
    stats, counts = map.stats, map.counts
    in_role = sum(counts[name].get("fully", 0) for name in map.roles)
    versions = ", ".join(f"{name} {version}" for name, version in sorted(map.versions.items()))
    lines = [
        f"{len(map.roles)} role vectors, each the mean of its responses fully in the role ({in_role} in "
        f"all, at least {map.minimums[0]} a role), and {len(map.somewhat)} vectors of responses somewhat "
        f"in the role; {counts.get(DEFAULT, {}).get('fully', 0)} responses of the default.",
        "A response's activation is the mean over its tokens of the residual stream after each block "
        f"({map.n_layers} blocks of width {map.d_model}, counted from 0; {map.model.dtype}).",
        "The axis is the default's mean minus the mean of the role vectors, roles weighted equally. The "
        "principal components are of all role vectors, centred and not scaled, without the default; PC1 "
        "points the way of the axis.",
        *_intervals(map),
        f"Null: {stats.n_boot} draws in which {stats.null_folds} random role folds stand in for the "
        "default; axis and components are computed anew in each.",
        f"Split half: {stats.n_splits} random halvings of what {stats.split_roles} roles answered and the "
        f"default. Seed of all resampling: {stats.seed}.",
    ]
    if not judged:
        lines.append("No judge: every response of a role counts as fully in the role.")
    judges = {} if map.checks is None else map.checks.judges
    if judges:
        told = ", ".join(f"{name} {count:,}" for name, count in sorted(judges.items()))
        lines.append(f"Scores by judge: {told}.")
    if versions:
        lines.append(f"Made with {versions}.")
    if map.command:
        lines.append(f"Command: {map.command}")
    return tuple(lines)


def _intervals(map: PersonaMap) -> tuple[str, ...]:
    checks, stats = map.checks, map.stats
    if checks is None:
        return (
            f"Intervals: {stats.n_boot} bootstrap draws over random folds of the responses. This map is of "
            "the first design: its intervals leave out prompts, questions and the error of the axis.",
        )
    profile = checks.profile
    lines = [
        f"Design: {checks.design}. {profile['roles']} roles, {profile['prompts'] or 'all'} prompts a role, "
        f"{profile['questions']} questions, at most {profile['max_new_tokens']} tokens; "
        f"{checks.cut:.0%} of the responses were cut off there.",
        f"Intervals are over new prompts and questions: of a role's place by variance components pooled over "
        f"roles and the error of the axis, of the rest by {stats.n_boot} bootstrap draws over prompts, "
        "questions and roles.",
    ]
    if checks.threshold is not None:
        lines.append(
            "Role information of a response: the mean over its tokens of log p(token | role prompt, question)"
            " - log p(token | question), by the model itself. It played its role above "
            f"{checks.threshold:.3f} nats a token, which 5% of the default's responses under neutral prompts "
            "exceed."
        )
    return tuple(lines)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _point(values: Any) -> Point:
    """Return the first three values, with 0 for components that do not exist."""
    x, y, z = [*_floats(values[:3]), 0.0, 0.0, 0.0][:3]
    return x, y, z
