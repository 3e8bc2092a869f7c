"""The plans that requests may name: by digest, by name, or written inline and resolved through a map."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from personascope.calibration import Sample, Window, cap_plan
from personascope.directions import plan_model, steering_plan
from personascope.engines import EngineInfo, PlanStore
from personascope.errors import EngineError, EvaluationError, InterventionError, StoreError, UsageError
from personascope.interventions import Cap, Plan
from personascope.space import PersonaMap

SHORTEST = 8
"""Minimum number of digits of a short digest."""

MOST_INLINE = 256
"""Maximum number of inline plans that are kept in memory."""

NO_PLAN = "none"
"""Name that asks for no plan, also where the server has a default one."""

_INLINE = 'write {"cap": {"percentile": 75, "layers": [12, 20]}} or {"steer": -0.2}'


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
            raise UsageError(f"the inline cap is {_brief(value)}", hint=_INLINE)
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
                raise UsageError(f"the inline steering is {_brief(value)}", hint=_INLINE)
            strength, layer = value.get("strength"), value.get("layer")
        number = _number(strength, "the inline steering strength")
        if layer is not None and (type(layer) is not int or not 0 <= layer < self.persona_map.n_layers):
            raise UsageError(
                f"the inline steering has the layer {_brief(layer)}",
                hint=f"give 0 to {self.persona_map.n_layers - 1}",
            )
        return steering_plan(self.persona_map, number, self.norms, layer=layer)


class PlanBook:
    """Plans of a server, by digest, short digest and name.

    Args:
        store: Store of plans by digest.
        info: Identity and shape of the served model, which plans must fit.
        maker: Maker of inline plans; None without a map.
        default: Name or digest of the plan of requests that name none; None for no plan.
    """

    def __init__(
        self, store: PlanStore, info: EngineInfo, maker: MapPlans | None = None, default: str | None = None
    ) -> None:
        """Begin with the plans in the store, which have no names yet."""
        self.store = store
        self.maker = maker
        self.default: Plan | None = None
        self._info = info
        self._names: dict[str, str] = {}
        self._inline: dict[str, Plan] = {}
        # The store's memory, the names and the inline plans are shared by the threads of requests.
        self._lock = threading.Lock()
        self._default = default

    def add(self, plan: Plan, *names: str) -> str:
        """Check and store a plan under its own name and others; return its digest.

        Raises:
            EngineError: If the plan does not fit the model.
            StoreError: If it cannot be written.
        """
        self.check(plan)
        with self._lock:
            digest = self.store.put(plan)
            for name in (plan.name, *names):
                if name and name != NO_PLAN:
                    # A name that is taken stays with the plan that had it first.
                    self._names.setdefault(name, digest)
        return digest

    def use_default(self) -> None:
        """Resolve the default plan.

        Raises:
            EngineError: If there is no such plan.
        """
        self.default = None if self._default is None else self.resolve(self._default)

    def names(self) -> list[dict[str, Any]]:
        """Return the named plans, as JSON values."""
        with self._lock:
            digests = dict.fromkeys(self._names.values())
            plans = {digest: self.store.plan(digest) for digest in digests}
            known = [(name, digest) for name, digest in self._names.items()]
        return [
            {
                "name": next(name for name, whose in known if whose == digest),
                "names": [name for name, whose in known if whose == digest],
                "digest": digest,
                "layers": list(plan.layers),
                "explanation": plan.explain(),
            }
            for digest, plan in plans.items()
        ]

    def forget(self, digest: str) -> None:
        """Drop a plan that was deleted, with its names."""
        with self._lock:
            self.store.forget(digest)
            self._names = {name: whose for name, whose in self._names.items() if whose != digest}

    def check(self, plan: Plan) -> None:
        """Check that a plan fits the served model and its dtype.

        Raises:
            EngineError: If it does not; the message names the reason.
        """
        info = self._info
        try:
            plan.check_model(
                model_id=info.model_id,
                revision=info.model_revision,
                n_layers=info.n_layers,
                d_model=info.d_model,
            )
            plan.check_dtype(info.dtype)
        except InterventionError as error:
            raise EngineError(error.message, hint=error.hint) from error

    def resolve(self, value: Any) -> Plan | None:
        """Return the plan that a request names or writes; None for no plan.

        Args:
            value: Digest, the beginning of one (8 digits or more), name, inline plan, or None or "none".

        Raises:
            EngineError: If there is no such plan, or it does not fit the model.
            UsageError: If an inline plan is malformed.
        """
        if value is None or value == NO_PLAN:
            return None
        if isinstance(value, Mapping):
            return self._written(value)
        if not isinstance(value, str):
            raise EngineError(f"plan is {_brief(value)}", hint="give a digest, a name or an inline plan")
        with self._lock:
            if value in self._names:
                return self.store.plan(self._names[value])
            if len(value) < 64 and len(value) >= SHORTEST and set(value) <= set("0123456789abcdef"):
                found = [digest for digest in self.store.digests(Plan) if digest.startswith(value)]
                if len(found) > 1:
                    raise EngineError(
                        f"{len(found)} plans have digests that begin with {value!r}", hint="give more digits"
                    )
                value = found[0] if found else value
            return self.store.plan(value)

    def _written(self, value: Mapping[str, Any]) -> Plan:
        if not value or not set(value) <= {"cap", "steer"}:
            raise UsageError(f"the inline plan is {_brief(dict(value))}", hint=_INLINE)
        if self.maker is None:
            raise UsageError("an inline plan needs the map of the model", hint="start the server with --map")
        key = json.dumps(value, sort_keys=True)
        with self._lock:
            known = self._inline.get(key)
        if known is not None:
            return known
        # A cap comes last, so that it holds whatever the steering does.
        made = [getattr(self.maker, kind)(value[kind]) for kind in ("steer", "cap") if kind in value]
        plan = made[0] if len(made) == 1 else made[0] + made[1]
        self.check(plan)
        with self._lock:
            if len(self._inline) >= MOST_INLINE:
                self._inline.pop(next(iter(self._inline)))
            self._inline[key] = plan
        return plan


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
