"""The figures of a map as plain values: its verdict, its roles by position, its layers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from personascope.space import PersonaMap

_COLUMNS = ("role", "position", "low", "high", "projection", "n", "played")


def map_values(persona_map: PersonaMap) -> dict[str, Any]:
    """Return a map's model, verdict, roles and layers as plain values, with NaN for what is not known.

    Roles are nearest the Assistant first. Positions and projections are at the middle layer.
    """
    found = persona_map.verdict()
    return {
        "model": dataclasses.asdict(persona_map.model),
        "middle_layer": persona_map.middle_layer,
        "verdict": [
            {"question": question, "grade": one.grade, "reasons": list(one.reasons)}
            for question, one in found.answers
        ],
        "warnings": list(found.warnings),
        "roles": role_rows(persona_map)[0],
        "layers": layer_rows(persona_map),
    }


def role_rows(persona_map: PersonaMap) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Return a row for each role, nearest the Assistant first, and the columns."""
    at, stats = persona_map.middle_layer, persona_map.stats
    counts, checks = persona_map.counts, persona_map.checks
    play = {} if checks is None else checks.roles

    def row(role: str, projection: float, limits: tuple[float, float]) -> dict[str, Any]:
        low, high = (float(persona_map.to_units(limit, at)) for limit in limits)
        shown = play.get(role)
        return {
            "role": role,
            "position": float(persona_map.to_units(projection, at)),
            "low": low,
            "high": high,
            "projection": projection,
            "n": counts.get(role, {}).get("fully"),
            "played": shown.played / shown.responses if shown is not None and shown.responses else None,
        }

    nan = float("nan")
    intervals = stats.projection_interval
    rows = [
        row(
            role,
            float(stats.projections[at, index]),
            (float(intervals[index, 0]), float(intervals[index, 1]))
            if len(intervals) > index
            else (nan, nan),
        )
        for index, role in enumerate(persona_map.roles)
    ]
    # A negative unit would turn the order of positions round; the axis points toward the default.
    rows.sort(key=lambda found: -found["projection"])
    rows += [row(role, nan, (nan, nan)) for role in persona_map.excluded]
    return rows, _COLUMNS


def layer_rows(persona_map: PersonaMap) -> list[dict[str, Any]]:
    """Return a row for each layer: every statistic with one value or one interval a layer."""
    n_layers = persona_map.n_layers
    rows: list[dict[str, Any]] = [{"layer": layer} for layer in range(n_layers)]
    for field in dataclasses.fields(persona_map.stats):
        values = getattr(persona_map.stats, field.name)
        if not isinstance(values, np.ndarray) or not values.shape or len(values) != n_layers:
            continue
        interval = values.ndim == 2 and values.shape[1] == 2 and field.name.endswith(("_interval", "_range"))
        if values.ndim == 1 and field.name not in ("default_loadings",):
            names = [(field.name, ...)]
        elif interval:
            names = [(f"{field.name}_low", 0), (f"{field.name}_high", 1)]
        else:
            continue
        for name, column in names:
            for row, value in zip(rows, values if column is ... else values[:, column], strict=True):
                row[name] = value.item()
    return rows
