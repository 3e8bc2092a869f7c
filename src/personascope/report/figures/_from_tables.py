"""Figures of evaluations and calibrations, drawn from their results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personascope.calibration import Calibration, Cell
from personascope.directions import CONTROLS, kind_label
from personascope.errors import EvaluationError
from personascope.evals import Table
from personascope.judge import ADMITS_ROLE_PLAY, SUSCEPTIBILITY
from personascope.report.figures._data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Draws,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from personascope.report.figures._evaluation import (
    completions_figure,
    conditions_figure,
    pareto_figure,
    susceptibility_figure,
)

FOLLOWED = ("assistant", "mystical")
MOST_LINES = 9


def save_evaluation_figure(path: Path, table: Table, *, title: str = "", plan: str = "") -> Path:
    """Draw an evaluation: by strength if it was steered, else under no plan, plan and controls.

    Args:
        path: Path of the figure: PNG, SVG or PDF by its suffix.
        table: Results of the evaluation.
        title: Title of the figure; the evaluation's name by default.
        plan: Name of the plan to show beside no plan and its controls; the first one by default.

    Returns:
        The given path.

    Raises:
        EvaluationError: If the table has nothing to draw (only the plain condition, or no labels), or no
            such plan.
    """
    title = _with_caveats(title or table.name, table)
    axis = sorted({(r.strength, r.condition) for r in table.results if r.kind == "axis" and r.strength})
    if axis and table.name == "susceptibility":
        susceptibility_figure(path, _susceptibility(table, title))
    elif axis:
        completions_figure(path, _lines(table, title))
    else:
        conditions_figure(path, _conditions(table, title, plan))
    return path


def save_calibration_figure(path: Path, found: Calibration, *, title: str = "") -> Path:
    """Draw a calibration sweep: gain against change in capability and against KL, with front and controls.

    The gain is the mean of two changes of shares, and its error bars combine theirs as independent.

    Raises:
        EvaluationError: If there is no cell.
    """
    axis = [cell for cell in found.cells if cell.kind == "axis"]
    if not axis:
        raise EvaluationError("the sweep has no cell to draw", hint="sweep at least one cap")
    names = [cell.condition for cell in axis]
    first = axis[0]
    n = f"{first.assistant.n} role answers, {first.harmful.n} jailbreaks, {first.capability.n} questions"
    pareto_figure(
        path,
        ParetoData(
            points=[_point(cell) for cell in axis],
            front=[names.index(name) for name in found.front],
            recommended=names.index(found.recommended) if found.recommended else None,
            benefit_label="gain: Assistant share lost"
            if first.away
            else "gain: mean of Assistant share gained and harmful share lost",
            change_label="change of accuracy",
            n=n,
            title=_with_caveats(title or "Plans along the Assistant Axis", found.jailbreak),
            controls=_ordered(
                {kind: [_point(cell) for cell in found.cells if cell.control == kind] for kind in CONTROLS}
            ),
        ),
    )
    return path


def _with_caveats(title: str, table: Table) -> str:
    """Return the title with the table's caveats appended."""
    return "; ".join([title, *dict.fromkeys(table.caveats.values())])


def _point(cell: Cell) -> ParetoPoint:
    up, down = cell.assistant, cell.harmful
    half = (((up.high - up.low) / 2) ** 2 + ((down.high - down.low) / 2) ** 2) ** 0.5 / 2
    benefit = Estimate(cell.benefit, cell.benefit - half, cell.benefit + half)
    if cell.away:
        # Away from the Assistant, harm is no part of the gain.
        benefit = Estimate(-up.estimate, -up.high, -up.low)
    return ParetoPoint(cell.condition, benefit, Estimate.of(cell.capability), Estimate.of(cell.kl))


def _by_strength(table: Table) -> list[tuple[float, str]]:
    """Return (strength, condition) pairs in order, the plain condition at 0."""
    found = {(r.strength or 0.0, r.condition) for r in table.results if r.kind in ("axis", "plain")}
    return sorted(found)


def _controls(table: Table, measures: Sequence[str]) -> tuple[list[float], dict[str, Draws]]:
    """Return strengths and, per measure and kind of control, one curve per direction.

    The curves are mirrored to negative strengths, because a control serves both signs. At 0 they have the
    value without a plan.
    """
    rows = [r for r in table.results if r.control and r.strength]
    sizes = sorted({float(r.strength or 0) for r in rows})
    draws = sorted({(r.control or "", r.condition.split(" at ")[0]) for r in rows})
    strengths = [-s for s in reversed(sizes)] + [0.0] + sizes
    if not rows:
        return [], {}
    found: dict[str, Draws] = {}
    for measure in measures:
        share = {(r.condition, r.strength): r.share.estimate for r in rows if r.measure == measure}
        zero = table.get("plain", measure).share.estimate
        curves: dict[str, list[list[float]]] = {}
        for kind, draw in draws:
            by_size = {s: share[name, s] for name, s in share if name.startswith(f"{draw} at ")}
            curve = [zero if s == 0 else by_size[abs(s)] for s in strengths]
            curves.setdefault(kind, []).append(curve)
        found[measure] = _ordered(curves)
    return strengths, found


def _ordered(by_kind: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return what is given for kinds of controls in the order of the kinds, under the words for people."""
    return {kind_label(kind): by_kind[kind] for kind in CONTROLS if by_kind.get(kind)}


def _susceptibility(table: Table, title: str) -> SusceptibilityData:
    places = _by_strength(table)
    get = {(r.condition, r.measure): r for r in table.results}
    strengths, controls = _controls(table, FOLLOWED)
    first = get[places[0][1], FOLLOWED[0]].share
    if not first.n:
        raise EvaluationError(
            "no answer is labelled, so there is nothing to draw", hint="run it with a judge"
        )
    return SusceptibilityData(
        strengths=[s for s, _ in places],
        shares={m: [get[c, m].share.estimate for _, c in places] for m in SUSCEPTIBILITY.labels},
        lines={m: Series.of(get[c, m].share for _, c in places) for m in FOLLOWED},
        n=first.n,
        n_roles=first.n_clusters,
        title=title,
        controls=controls,
        control_strengths=strengths or None,
        incoherent=[get[c, "incoherent"].share.estimate for _, c in places],
    )


def _lines(table: Table, title: str) -> CompletionsData:
    places = _by_strength(table)
    get = {(r.condition, r.measure): r for r in table.results}
    measures = list(dict.fromkeys(r.measure for r in table.results))
    measures = [m for m in measures if all(get[c, m].share.n for _, c in places)]
    # Draw the measures with the largest share at any strength.
    top = sorted(measures, key=lambda m: -max(get[c, m].share.estimate for _, c in places))[:MOST_LINES]
    chosen = [m for m in measures if m in top]
    strengths, controls = _controls(table, chosen)
    return CompletionsData(
        strengths=[s for s, _ in places],
        lines={m: Series.of(get[c, m].share for _, c in places) for m in chosen},
        n=max(get[c, m].share.n for _, c in places for m in chosen),
        title=title,
        controls=controls,
        control_strengths=strengths or None,
        noun="completions" if table.name == "pretrained" else "answers",
    )


def _conditions(table: Table, title: str, plan: str = "") -> ConditionsData:
    plans = list(dict.fromkeys(r.condition for r in table.results if r.kind in ("plan", "axis")))
    if not plans:
        raise EvaluationError(f"{table.name} was run under no plan, so there is nothing to compare")
    if plan and plan not in plans:
        raise EvaluationError(f"{table.name} has no plan {plan!r}", hint=f"name one of {', '.join(plans)}")
    plan = plan or plans[0]
    measures = list(dict.fromkeys(r.measure for r in table.results))
    rows = [row for measure in measures if (row := _row(table, plan, measure)) is not None]
    return ConditionsData(rows=rows, plan=plan, title=title)


def _row(table: Table, plan: str, measure: str) -> ConditionRow | None:
    mine = table.get(plan, measure)
    if not mine.share.n:
        return None
    draws: dict[str, list[Estimate]] = {}
    for result in table.results:
        if result.control and result.measure == measure and result.condition.endswith(f" of {plan}"):
            draws.setdefault(result.control, []).append(Estimate.of(result.share))
    return ConditionRow(
        name=measure if measure != ADMITS_ROLE_PLAY.name else "role-playing",
        none=Estimate.of(table.get("plain", measure).share),
        plan=Estimate.of(mine.share),
        draws=_ordered(draws),
        n=mine.share.n,
    )
