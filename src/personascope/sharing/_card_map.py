"""The part of a card that is about a map: its verdict, its figures with their intervals, its roles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from personascope.sharing._contents import Contents
from personascope.sharing._markdown import code, plain, table

if TYPE_CHECKING:
    from personascope.space import PersonaMap

ENDS = 10
"""Roles that are listed at each end of the axis."""


def map_card(contents: Contents) -> list[str]:
    """Return the paragraphs of a map's card."""
    found = cast("PersonaMap", contents.value)
    verdict = found.verdict()
    parts = [
        "Roles that the model played, as directions in its residual stream, and the axis from their mean to "
        "the default Assistant.",
        f"**Verdict: {verdict.headline}.**",
        table(("", ""), _made_of(found)),
        f"## Verdict at layer {verdict.layer}",
        "\n".join(
            f"- {question} **{finding.grade}**: {'; '.join(map(plain, finding.reasons))}"
            for question, finding in verdict.answers
        ),
    ]
    if verdict.warnings:
        parts.append("\n".join(f"- Warning: {plain(warning)}" for warning in verdict.warnings))
    parts += [
        f"## Figures at layer {found.middle_layer}",
        table(("figure", "value", "95% interval"), _figures(found)),
        "## Ends of the axis",
        "Position 0 is the mean role, 1 the default Assistant. Intervals are over new prompts and questions.",
        table(("rank", "role", "position", "95% interval"), _roles(found)),
    ]
    return parts


def _made_of(found: PersonaMap) -> list[tuple[str, str]]:
    model, checks = found.model, found.checks
    responses = sum(sum(row.values()) for row in found.counts.values())
    rows = [
        ("model", code(model.id)),
        ("revision", code(model.revision or "unknown")),
        ("layers", f"{model.n_layers} of {model.d_model}, {code(model.dtype)}"),
        ("roles", f"{len(found.roles)} with a vector, {len(found.excluded)} with too few responses"),
        ("responses", f"{responses:,}"),
        ("corpus", code(found.corpus_digest)),
    ]
    if checks is not None:
        profile = checks.profile
        rows += [
            ("profile", f"{code(profile['name'])}, seed {profile['seed']}"),
            (
                "design",
                f"{profile['prompts'] or 'all'} prompts a role, {profile['questions']} questions, at most "
                f"{profile['max_new_tokens']} tokens; {plain(checks.design)}",
            ),
        ]
        if checks.judges:
            rows.append(("judge", ", ".join(f"{code(name)} ({n:,})" for name, n in checks.judges.items())))
    rows += [("command", code(hide_home(found.command) or "not recorded")), ("digest", code(found.digest))]
    return rows


def _figures(found: PersonaMap) -> list[tuple[str, str, str]]:
    stats, at = found.stats, found.middle_layer
    place = stats.default_position_interval
    return [
        ("cosine of the axis with PC1", _number(stats.cos_axis_pc1[at]), "-"),
        (
            "the same without noise",
            _number(stats.cos_axis_pc1_corrected[at]),
            _interval(stats.cos_axis_pc1_interval[at]),
        ),
        ("95% quantile of its null", _number(stats.null_q95[at]), "-"),
        ("cosine of the axes of two halves", _number(stats.split_half[at]), "-"),
        (
            "reliability of roles, over prompts and questions",
            _number(stats.role_reliability[at]),
            _interval(stats.role_reliability_interval[at]),
        ),
        (
            "reliability of prompts, over questions",
            _number(stats.prompt_reliability[at]),
            _interval(stats.prompt_reliability_interval[at]),
        ),
        (
            "place of the default in the roles' range on PC1",
            _number(stats.default_position[at, 0]),
            _interval(place[0]) if len(place) else "-",
        ),
        ("share of roles below the default on PC1", _number(stats.default_percentile[at, 0]), "-"),
        ("components for 70% of the variance", str(int(stats.components_for_70[at])), "-"),
    ]


def _roles(found: PersonaMap) -> list[tuple[str, str, str, str]]:
    stats, at = found.stats, found.middle_layer
    order = (-stats.projections[at]).argsort(kind="stable")
    ranked = [(rank, int(index)) for rank, index in enumerate(order, start=1)]
    shown = ranked if len(ranked) <= 2 * ENDS else [*ranked[:ENDS], *ranked[-ENDS:]]
    return [
        (
            str(rank),
            code(found.roles[index]),
            f"{found.to_units(stats.projections[at, index], at):+.2f}",
            _interval(found.to_units(stats.projection_interval[index], at)),
        )
        for rank, index in shown
    ]


def _number(value: Any) -> str:
    return "-" if value != value else f"{value:.2f}"


def _interval(pair: Any) -> str:
    low, high = pair
    return "-" if low != low or high != high else f"{low:.2f} to {high:.2f}"


def hide_home(text: str) -> str:
    """Return a text with the user's home folder as ``~``."""
    home = str(Path.home())
    return text.replace(f"{home}{os.sep}", f"~{os.sep}") if len(home) > 1 else text
