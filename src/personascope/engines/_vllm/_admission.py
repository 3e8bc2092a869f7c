"""Check a request's spec, plan and probes against the model before admission.

The scheduler checks a request before it enters its queue, the HTTP front end before the engine gets it.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from personascope.engines._capabilities import unsupported
from personascope.engines._gate import acts_too_late, lacks_parts, lacks_probe
from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._reply_spec import GateSpec
from personascope.engines._vllm.request._spec import Spec
from personascope.errors import EngineError, InterventionError
from personascope.interventions import Plan, acts_on_response, reply_parts


@dataclass(frozen=True, slots=True)
class AdmissionCheck:
    """Checks against the plugin's configuration and the model's shape.

    Attributes:
        config: Configuration with which the plugin was started.
        n_layers: Number of decoder blocks.
        d_model: Width of the residual stream.
        dtype: Dtype of the weights.
        limits: Sizes of the static flavour's tables; None in the dynamic one, whose tables grow.
        tokenizer: Whether the workers have the model's tokenizer.
        pipeline: Whether the blocks are spread over a pipeline.
    """

    config: PluginConfig
    n_layers: int
    d_model: int
    dtype: str
    limits: Limits | None = None
    tokenizer: bool = True
    pipeline: bool = False

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
        return cls(
            config,
            int(text.num_hidden_layers),
            int(text.hidden_size),
            dtype,
            limits,
            tokenizer=not getattr(vllm_config.model_config, "skip_tokenizer_init", False),
            pipeline=vllm_config.parallel_config.pipeline_parallel_size > 1,
        )

    def check(self, spec: Spec, store: PlanStore) -> Plan | None:
        """Check a spec, and return its plan, or None if it has none.

        Raises:
            EngineError: If a plan or probe set is missing, or does not fit this model or the plugin.
        """
        self.check_layers(spec.layers or ())
        probes = None if spec.probes is None else store.probes(spec.probes)
        if probes is not None:
            self.check_probes(probes)
        plan = None if spec.plan is None else store.plan(spec.plan)
        if plan is not None:
            self.check_plan(plan)
            _check_turns(plan, spec)
        if spec.reply is not None and not self.tokenizer:
            raise EngineError(
                "the parts of the response are to be told apart, and vLLM was started without a tokenizer",
                hint="leave skip_tokenizer_init out",
            )
        if spec.before and self.limits is not None:
            raise unsupported("server", "before_graphs", "the request asks for")
        if spec.gate is not None:
            self._check_gate(spec, spec.gate, plan, probes, store)
        return plan

    def _check_gate(
        self, spec: Spec, gate: GateSpec, plan: Plan | None, probes: ProbeSet | None, store: PlanStore
    ) -> None:
        if self.pipeline:
            raise unsupported("vllm", "gate_pipeline", "the request asks for")
        if gate.at is None and (probes is None or gate.probe not in probes.names):
            raise lacks_probe(gate.probe)
        if gate.tokens not in ("response", "answer") and spec.reply is None:
            raise lacks_parts(f"the gate reads the {gate.tokens}")
        if gate.plan is None:
            return
        switched = store.plan(gate.plan)
        self.check_plan(switched)
        _check_turns(switched, spec)
        if not acts_on_response(switched):
            raise acts_too_late()
        if plan is not None:
            try:
                self.check_plan(plan + switched)
            except InterventionError as error:
                raise EngineError(error.message, hint=error.hint) from error

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


def _check_turns(plan: Plan, spec: Spec) -> None:
    """Check that the request has the turns and the parts of a response that a plan acts on.

    Raises:
        EngineError: If it does not; the message names the place.
    """
    for op in plan.ops:
        if op.tokens.startswith("turn:") and int(op.tokens.removeprefix("turn:")) >= len(spec.turns):
            raise EngineError(
                f"the plan acts from {op.tokens} on, and the request names {len(spec.turns)} turns",
                hint="send the turns' first positions, or a plan that acts elsewhere",
            )
    for part in reply_parts(plan):
        if part != "answer" and spec.reply is None and not spec.parts:
            raise lacks_parts(f"the plan acts on the {part}")
