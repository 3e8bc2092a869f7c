"""Check a request's spec, plan and probes against the model before admission.

The scheduler checks a request before it enters its queue, the HTTP front end before the engine gets it.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._spec import Spec
from personascope.errors import EngineError, InterventionError
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True)
class AdmissionCheck:
    """Checks against the plugin's configuration and the model's shape.

    Attributes:
        config: Configuration with which the plugin was started.
        n_layers: Number of decoder blocks.
        d_model: Width of the residual stream.
        dtype: Dtype of the weights.
        limits: Sizes of the static flavour's tables; None in the dynamic one, whose tables grow.
    """

    config: PluginConfig
    n_layers: int
    d_model: int
    dtype: str
    limits: Limits | None = None

    @classmethod
    def of(cls, vllm_config: Any) -> AdmissionCheck:
        """Return the check for an engine with the given config of vLLM.

        Raises:
            EngineError: If the plugin's part of the config is missing or malformed.
        """
        from vllm.platforms import current_platform

        config = PluginConfig.of(vllm_config)
        text = vllm_config.model_config.hf_text_config
        dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        static = config.static(vllm_config, gpu=not current_platform.is_cpu())
        limits = config.limits if static else None
        return cls(config, int(text.num_hidden_layers), int(text.hidden_size), dtype, limits)

    def check(self, spec: Spec, store: PlanStore) -> Plan | None:
        """Check a spec, and return its plan, or None if it has none.

        Raises:
            EngineError: If a plan or probe set is missing, or does not fit this model or the plugin.
        """
        self.check_layers(spec.layers or ())
        if spec.probes is not None:
            self.check_probes(store.probes(spec.probes))
        if spec.plan is None:
            return None
        plan = store.plan(spec.plan)
        self.check_plan(plan)
        for op in plan.ops:
            if op.tokens.startswith("turn:") and int(op.tokens.removeprefix("turn:")) >= len(spec.turns):
                raise EngineError(
                    f"the plan acts from {op.tokens} on, and the request names {len(spec.turns)} turns",
                    hint="send the turns' first positions, or a plan that acts elsewhere",
                )
        return plan

    def check_plan(self, plan: Plan) -> None:
        """Check that a plan fits the model, its dtype, the instrumented layers and the table sizes.

        Raises:
            EngineError: If it does not; the message names the reason.
        """
        try:
            plan.check_model(
                model_id=self.config.model_id,
                revision=self.config.revision,
                n_layers=self.n_layers,
                d_model=self.d_model,
            )
            plan.check_dtype(self.dtype)
        except InterventionError as error:
            raise EngineError(error.message, hint=error.hint) from error
        self.check_layers(plan.layers)
        if self.limits is not None:
            self.limits.check_plan(plan)

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that probes are finite and fit the model's width, instrumented layers and table sizes.

        Raises:
            EngineError: If they do not; the message names the reason.
        """
        width = probes.directions.shape[1]
        if width != self.d_model or not np.isfinite(probes.directions).all():
            raise EngineError(
                f"the probes are {width} wide or not finite; the model is {self.d_model}",
                hint="make them from this model's map",
            )
        self.check_layers(probes.layers)
        if self.limits is not None:
            self.limits.check_probes(probes)

    def check_layers(self, layers: Iterable[int]) -> None:
        """Check that layers are instrumented.

        Raises:
            EngineError: If one is not; the message names it.
        """
        instrumented = self.config.layers
        outside = sorted(
            at for at in layers if at >= self.n_layers or (instrumented and at not in instrumented)
        )
        if outside:
            raise EngineError(
                f"layer {outside[0]} is not instrumented",
                hint=f"the model has {self.n_layers} layers; the plugin was started with "
                + ("all of them" if instrumented is None else ", ".join(map(str, sorted(instrumented)))),
            )
