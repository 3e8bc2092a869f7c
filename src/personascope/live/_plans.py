"""Inline plans, resolved through a map, and the plans that a server is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.calibration import Sample, Window, cap_plan
from personascope.directions import plan_model, read_norms, steering_plan
from personascope.engines import INLINE
from personascope.errors import EvaluationError, StoreError, UsageError
from personascope.interventions import Cap, Op, Plan, Steer
from personascope.space import PersonaMap

OVERRIDES = ("floor", "percentile", "strength")
"""Fields of an override."""

ALONG = 0.9999
"""Minimum cosine between a cap's direction and the map's axis for its floor to be a position."""


class MapPlans:
    """Maker of plans from a map: caps at percentiles of its role responses, and steering in units of norms.

    Args:
        persona_map: Map of the served model.
        folder: Run folder, whose kept responses set the floors of caps; without any, the map's percentiles.
        norms: Mean norm of the residual stream at each layer; None if steering is not offered.
    """

    def __init__(
        self, persona_map: PersonaMap, folder: Path | None, norms: Float[np.ndarray, "L"] | None
    ) -> None:
        """Read the kept responses, if there are any."""
        self.persona_map = persona_map
        self.norms = norms
        self._sample: Sample | None = None
        if folder is not None:
            try:
                self._sample = Sample.open(folder)
                self._along = self._sample.project()
            except (StoreError, EvaluationError):
                # The map alone has percentiles too, though only nine of them.
                self._sample = None

    def cap(self, value: Any) -> Plan:
        """Return the cap of an inline plan.

        Raises:
            UsageError: If the value is malformed, or does not fit the map.
        """
        if not isinstance(value, Mapping) or not set(value) <= {"percentile", "layers"}:
            raise UsageError(f"the inline cap is {_brief(value)}", hint=INLINE)
        percentile = _percentile(value.get("percentile"), "the inline cap")
        layers, n_layers = value.get("layers"), self.persona_map.n_layers
        band: list[Any] = layers if isinstance(layers, list) else []
        whole = len(band) == 2 and all(type(layer) is int for layer in band)
        if not whole or not 0 <= band[0] < band[1] <= n_layers:
            raise UsageError(
                f"the inline cap has the layers {_brief(layers)}",
                hint=f"give the first layer and the one after the last, of a model with {n_layers}",
            )
        window = Window(*band)
        if self._sample is not None:
            return cap_plan(self._sample, window, axis_percentile=percentile, projections=self._along)
        ops = tuple(
            Cap(layer, self.persona_map.unit_axis(layer), floor=self._interpolated(percentile, layer))
            for layer in range(window.start, window.stop)
        )
        return Plan(
            ops, plan_model(self.persona_map), f"cap {window} at axis percentile {percentile:g} of the map"
        )

    def steer(self, value: Any) -> Plan:
        """Return the steering of an inline plan: a strength, or an object with ``strength`` and ``layer``.

        Raises:
            UsageError: If the value is malformed, or does not fit the map.
        """
        if self.norms is None:
            raise UsageError(
                "this server does not know the norms that strengths are fractions of",
                hint="start it with a map's run folder: --map RUN",
            )
        layer: Any = None
        strength = value
        if isinstance(value, Mapping):
            if not set(value) <= {"strength", "layer"}:
                raise UsageError(f"the inline steering is {_brief(value)}", hint=INLINE)
            strength, layer = value.get("strength"), value.get("layer")
        number = _number(strength, "the inline steering strength")
        if layer is not None and (type(layer) is not int or not 0 <= layer < self.persona_map.n_layers):
            raise UsageError(
                f"the inline steering has the layer {_brief(layer)}",
                hint=f"give 0 to {self.persona_map.n_layers - 1}",
            )
        return steering_plan(self.persona_map, number, self.norms, layer=layer)

    def override(self, plan: Plan, value: Any) -> Plan:
        """Return a plan whose floors along the axis, or whose steering strengths, are others.

        Args:
            plan: Plan to change.
            value: Object with ``floor`` (a position in units of the map) or ``percentile`` (of the role
                responses), and with ``strength`` (a fraction of the mean norm), or with one of them.

        Raises:
            UsageError: If the value is malformed, or the plan has nothing that it changes.
        """
        if not isinstance(value, Mapping) or not value or not set(value) <= set(OVERRIDES):
            raise UsageError(f"the override is {_brief(value)}", hint=f"give {', '.join(OVERRIDES)}")
        if {"floor", "percentile"} <= set(value):
            raise UsageError("the override has floor and percentile", hint="give one of them")
        floors = {"floor", "percentile"} & set(value)
        ops = [self._changed(op, value) for op in plan.ops]
        for fields, kind in ((floors, Cap), ({"strength"} & set(value), Steer)):
            same = all(new is old for new, old in zip(ops, plan.ops, strict=True) if isinstance(old, kind))
            if fields and same:
                raise UsageError(
                    f"the plan {plan.name or plan.digest[:12]} has nothing that {fields.pop()} changes",
                    hint="a floor changes caps along the map's axis, a strength changes steering",
                )
        told = ", ".join(f"{name} {number:g}" for name, number in sorted(value.items()))
        return Plan(tuple(ops), plan.model, f"{plan.name or plan.digest[:12]} ({told})")

    def _changed(self, op: Op, value: Mapping[str, Any]) -> Op:
        if isinstance(op, Steer) and "strength" in value:
            strength = _number(value["strength"], "the strength of the override")
            norm = op.norm if self.norms is None else float(self.norms[op.layer])
            if norm is None:
                raise UsageError(
                    "this server does not know the norms that strengths are fractions of",
                    hint="start it with a map's run folder: --map RUN",
                )
            return replace(op, strength=strength, norm=norm)
        if isinstance(op, Cap) and op.floor is not None and {"floor", "percentile"} & set(value):
            if float(op.direction @ self.persona_map.unit_axis(op.layer)) < ALONG:
                return op
            return replace(op, floor=self._floor(value, op.layer))
        return op

    def _floor(self, value: Mapping[str, Any], layer: int) -> float:
        if "floor" in value:
            position = _number(value["floor"], "the floor of the override")
            mean_role, default = self.persona_map.units(layer)
            return float(mean_role + position * (default - mean_role))
        percentile = _percentile(value["percentile"], "the override")
        if self._sample is None:
            return self._interpolated(percentile, layer)
        cap = self.cap({"percentile": percentile, "layers": [layer, layer + 1]}).ops[0]
        assert isinstance(cap, Cap) and cap.floor is not None
        return cap.floor

    def _interpolated(self, percentile: float, layer: int) -> float:
        quantiles = self.persona_map.quantiles
        return float(np.interp(percentile, quantiles.percentiles, quantiles.role[layer]))


def open_maker(map_folder: str, run: str) -> MapPlans:
    """Return the maker of a map in another process than the engine's; it measures no norms.

    Args:
        map_folder: Folder of the map.
        run: Run folder of the map; without stored norms in it there is no inline steering.

    Raises:
        PersonascopeError: If the map or the norms are damaged.
    """
    folder = Path(run)
    persona_map = PersonaMap.open(map_folder)
    model = persona_map.model
    norms = read_norms(folder, revision=model.revision, n_layers=model.n_layers)
    return MapPlans(persona_map, folder, None if norms is None else norms.mean)


def named_plans(plans: Sequence[Plan | Path | str]) -> list[tuple[Plan, str]]:
    """Read plans, and return each with the name of its folder, or "" for a plan that was given as such.

    Raises:
        PersonascopeError: If a folder holds no plan, or a damaged one.
    """
    return [
        (plan, "") if isinstance(plan, Plan) else (Plan.load(plan), Path(plan).resolve().name)
        for plan in plans
    ]


def _percentile(value: Any, what: str) -> float:
    percentile = _number(value, f"the percentile of {what}")
    if not 0 <= percentile <= 100:
        raise UsageError(f"{what} has the percentile {percentile:g}", hint="give 0 to 100")
    return percentile


def _number(value: Any, what: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number of JSON may be greater than any float.
    if not is_number or abs(value) > 1e30 or not math.isfinite(value):
        raise UsageError(f"{what} is {_brief(value)}", hint="give a finite number")
    return float(value)


def _brief(value: Any) -> str:
    return repr(value)[:80]
