"""A streamer that runs a monitor inside Transformers' ``model.generate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.generation.stopping_criteria import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from personascope.dynamics.monitor._monitor import Monitor
from personascope.engines import TriggeredPlan
from personascope.errors import DynamicsError
from personascope.interventions import BatchedPlans, CapCounters, Plan, PlanTable, reply_parts, unit_direction
from personascope.models import (
    BackboneCall,
    LayerStack,
    LoadedModel,
    block_output,
    layer_stack,
    model_identity,
    replace_block_output,
)
from personascope.space import PersonaMap


class DriftStreamer(BaseStreamer):
    """Feed a monitor token by token while ``model.generate`` writes a reply, one reply at a time.

        with DriftStreamer(model, monitor, persona_map=persona_map) as streamer:
            model.generate(**inputs, streamer=streamer, stopping_criteria=streamer.stopping)

    The residual stream is read only at the monitor's layer, once per reply token. The prompt is not fed to
    the monitor. The last sampled token never passes through the model, so it is not read. An alarm takes
    effect one token later than in an engine, because the next token is sampled before the alarm is known. A
    stopped reply therefore has one token more than was read.

    Enter the context of an active plan (`personascope.models.steered`) before the streamer, so that the
    streamer reads what the next layer sees.

    Attributes:
        monitor: Monitor that is fed.
        projections: Raw projection of each token read in the newest reply.
    """

    def __init__(
        self,
        model: PreTrainedModel | LoadedModel | LayerStack,
        monitor: Monitor,
        *,
        persona_map: PersonaMap | None = None,
        direction: Float[np.ndarray, "d"] | None = None,
        inner: BaseStreamer | None = None,
    ) -> None:
        """Check that model, monitor and direction fit; hooks are set only in the ``with`` block.

        Args:
            model: Causal Transformers model, loaded in any way. A bare `LayerStack` is not checked against
                the monitor's model.
            monitor: Monitor of tokens.
            persona_map: Map whose axis is read and in whose units the monitor is fed.
            direction: Direction at the monitor's layer, of any norm, instead of a map. The monitor's own
                units then convert projections to positions.
            inner: Another streamer that receives the same tokens (for example a ``TextStreamer``).

        Raises:
            DynamicsError: If the monitor reads turns, is of another model or map or has no units, or the
                direction does not fit.
            ModelError: If the model's layer stack cannot be found.
        """
        if monitor.rule.level != "token":
            raise DynamicsError(
                "a monitor of turns cannot follow tokens", hint="calibrate a monitor with level token"
            )
        if (persona_map is None) == (direction is None):
            raise DynamicsError(
                "a streamer needs to know what to project on", hint="give either persona_map= or direction="
            )
        self._stack, self._name, self._revision = _stack_of(model)
        if self._name:
            monitor.check_model(model_id=self._name, revision=self._revision)
        layer = monitor.layer
        if not 0 <= layer < self._stack.n_layers:
            raise DynamicsError(
                f"the monitor reads layer {layer}, the model has {self._stack.n_layers}",
                hint="calibrate a monitor for this model",
            )
        if persona_map is not None:
            monitor.check_map(persona_map)
            direction, units = persona_map.unit_axis(layer), persona_map.units(layer)
        else:
            monitor.to_position(0.0)
            units = monitor.units
        assert units is not None
        self._zero, self._one = units
        unit = unit_direction(direction, "the streamer")
        if unit.size != self._stack.d_model:
            raise DynamicsError(
                f"the direction is {unit.size} wide, the model {self._stack.d_model}",
                hint="give the map of this model",
            )
        if isinstance(monitor.on_alarm, Plan):
            self._check_plan(monitor.on_alarm)
        self.monitor = monitor
        self.projections: list[float] = []
        self._direction = torch.from_numpy(np.array(unit))
        self._inner = inner
        self._hooks: list[RemovableHandle] = []
        self._gate_hooks: list[RemovableHandle] = []
        self._criteria = _Stop(self)
        self._prompt: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._reads: list[Tensor] = []
        self._responding = False
        self._asked = False
        self._stop = False
        self._gate: tuple[Plan, int, CapCounters] | None = None
        self._pass: BatchedPlans | None = None
        self._acted = 0
        self._fed = 0

    def __enter__(self) -> Self:
        """Set the hooks: before and after the backbone, and after the monitor's block."""
        if self._hooks:
            raise DynamicsError("the streamer is entered already", hint="make one for each with block")
        stack = self._stack
        self._hooks = [
            stack.backbone.register_forward_pre_hook(self._begin_pass, with_kwargs=True),
            stack.backbone.register_forward_hook(self._end_pass),
            stack.blocks[self.monitor.layer].register_forward_hook(self._read_block),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        """Remove all hooks, also after an error."""
        self._ungate()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    @property
    def stopping(self) -> StoppingCriteriaList:
        """Criteria that end the reply at an alarm; pass them to ``generate`` as ``stopping_criteria``."""
        return StoppingCriteriaList([self._criteria])

    @property
    def gate(self) -> TriggeredPlan | None:
        """The plan that an alarm switched on in the newest reply, with its counts so far, or None."""
        if self._gate is None:
            return None
        plan, token, counters = self._gate
        return TriggeredPlan(token, plan.digest, counters.counts(0, self._acted).stats(plan))

    def put(self, value: Tensor) -> None:
        """Receive the prompt, then each token, from ``generate``.

        Raises:
            DynamicsError: If there are several sequences, the streamer is not entered, or an alarm may stop
                the reply and ``generate`` was not given `stopping`.
        """
        if not self._hooks:
            raise DynamicsError(
                "the streamer was given to generate outside of its with block",
                hint="with DriftStreamer(...) as streamer: model.generate(..., streamer=streamer)",
            )
        if value.ndim > 1:
            if value.shape[0] != 1:
                raise DynamicsError(
                    f"generate makes {value.shape[0]} sequences at once, a streamer follows one",
                    hint="generate one at a time, or use an engine with a watch for each request",
                )
            self._ungate()
            self._clear()
            self._prompt = value.shape[1]
            self.projections = []
            self.monitor.begin_reply()
        else:
            self._take()
            if not self._asked and (self._stop or self.monitor.on_alarm == "stop"):
                raise DynamicsError(
                    "the monitor shall stop the reply, and generate does not ask it",
                    hint="generate(..., streamer=streamer, stopping_criteria=streamer.stopping)",
                )
        if self._inner is not None:
            self._inner.put(value)

    def end(self) -> None:
        """Receive the end of the reply from ``generate``."""
        self._ungate()
        self._prompt = None
        if self._inner is not None:
            self._inner.end()

    def asked(self) -> bool:
        """Return whether to end the reply; ``stopping`` calls this after every token."""
        self._asked = True
        self._take()
        return self._stop

    def _take(self) -> None:
        """Feed the monitor with the pending reads; called where ``generate`` waits for the device anyway."""
        reads, self._reads = self._reads, []
        for read in reads:
            raw = float(read)
            self.projections.append(raw)
            state = self.monitor.feed((raw - self._zero) / (self._one - self._zero))
            if state.acted == "stop":
                self._stop = True
            elif state.acted == "gate":
                assert self.monitor.gate is not None
                self._switch_on(self.monitor.gate, state.token + 1)

    def _begin_pass(self, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._responding = False
        if self._prompt is None:
            return
        call = BackboneCall.of(module, inputs, options)
        width = int(call.tokens.shape[1])
        # A cache of recurrent states has no length, so count the tokens fed since generate began.
        self._fed = (self._fed if call.past is None else call.past) + width
        if self._fed <= self._prompt:
            return
        if width != 1:
            raise DynamicsError(
                f"a forward pass holds {width} tokens, some of them the reply's; a streamer takes one by one",
                hint="generate with input_ids and a cache, and without an assistant model",
            )
        self._responding = True

    def _end_pass(self, *_: object) -> None:
        if self._responding and self._gate is not None:
            self._gate[2].finish()
            self._acted += 1
        self._responding = False

    def _read_block(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        if not self._responding:
            return output
        layer = self.monitor.layer
        if self._pass is not None and layer in self._pass.layers:
            output = replace_block_output(output, self._pass(layer, block_output(output)))
        hidden = block_output(output)[0, -1].float()
        # Keep it on the device: reading it on the host would stall the forward pass.
        self._reads.append(hidden @ self._direction.to(hidden.device))
        return output

    def _switch_on(self, plan: Plan, token: int) -> None:
        self._check_plan(plan)
        self._ungate()
        counters = CapCounters(1)
        self._gate, self._acted = (plan, token, counters), 0
        self._pass = BatchedPlans(PlanTable([plan], response_only=True), [plan], counters)
        # The hook on the monitor's block applies the plan there itself, before it reads.
        self._gate_hooks = [
            self._stack.blocks[layer].register_forward_hook(self._edit(layer))
            for layer in sorted(self._pass.layers - {self.monitor.layer})
        ]

    def _edit(self, layer: int) -> Callable[..., Any]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if self._pass is None or not self._responding:
                return output
            return replace_block_output(output, self._pass(layer, block_output(output)))

        return hook

    def _ungate(self) -> None:
        self._pass = None
        for hook in self._gate_hooks:
            hook.remove()
        self._gate_hooks = []

    def _check_plan(self, plan: Plan) -> None:
        named = self._name or "the model"
        shape = {"n_layers": self._stack.n_layers, "d_model": self._stack.d_model}
        (plan if self._name else plan.for_model(None)).check_model(
            model_id=named, revision=self._revision, **shape
        )
        turns = [op.tokens for op in plan.ops if op.tokens.startswith("turn:")]
        if turns:
            raise DynamicsError(
                f"the plan acts from {turns[0]} on, and a bare model does not know where turns begin",
                hint="act on the response, or use an engine",
            )
        parts = reply_parts(plan)
        if parts:
            raise DynamicsError(
                f"the plan acts on the {parts[0]} alone, and a bare model does not know where that begins",
                hint="act on the response, or use an engine",
            )


class _Stop(StoppingCriteria):
    def __init__(self, streamer: DriftStreamer) -> None:
        self._streamer = streamer

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> torch.BoolTensor:  # noqa: ARG002
        ends = torch.full((input_ids.shape[0],), self._streamer.asked(), device=input_ids.device)
        return cast("torch.BoolTensor", ends)


def _stack_of(model: PreTrainedModel | LoadedModel | LayerStack) -> tuple[LayerStack, str, str]:
    """Return the layer stack with the model's name and revision; "" if unknown."""
    if isinstance(model, LayerStack):
        return model, "", ""
    if isinstance(model, LoadedModel):
        return model.stack, model.model_id, model.revision
    identity = model_identity(model)
    return layer_stack(model), identity.id, identity.revision
