"""Inline plans, resolved through a map, and the plans that a server is given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.calibration import Sample, Window, cap_plan
from personascope.directions import plan_model, steering_plan
from personascope.engines import INLINE
from personascope.errors import EvaluationError, StoreError, UsageError
from personascope.interventions import Cap, Plan
from personascope.space import PersonaMap


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
        percentile = _number(value.get("percentile"), "the percentile of the inline cap")
        if not 0 <= percentile <= 100:
            raise UsageError(f"the inline cap has the percentile {percentile:g}", hint="give 0 to 100")
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
        quantiles = self.persona_map.quantiles
        ops = tuple(
            Cap(
                layer,
                self.persona_map.unit_axis(layer),
                floor=float(np.interp(percentile, quantiles.percentiles, quantiles.role[layer])),
            )
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


def named_plans(plans: Sequence[Plan | Path | str]) -> list[tuple[Plan, str]]:
    """Read plans, and return each with the name of its folder, or "" for a plan that was given as such.

    Raises:
        PersonascopeError: If a folder holds no plan, or a damaged one.
    """
    return [
        (plan, "") if isinstance(plan, Plan) else (Plan.load(plan), Path(plan).resolve().name)
        for plan in plans
    ]


def _number(value: Any, what: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number of JSON may be greater than any float.
    if not is_number or abs(value) > 1e30 or not math.isfinite(value):
        raise UsageError(f"{what} is {_brief(value)}", hint="give a finite number")
    return float(value)


def _brief(value: Any) -> str:
    return repr(value)[:80]
