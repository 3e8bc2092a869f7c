"""Apply a plan to any Transformers model within a ``with`` block."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from personascope.errors import InterventionError, ModelError
from personascope.interventions import (
    REPLY_PARTS,
    BatchedPlans,
    CapCounters,
    CapCounts,
    CapStats,
    Plan,
    PlanTable,
    TokenSpans,
    tokens_acted_on,
)
from personascope.models._call import BackboneCall
from personascope.models._identity import model_identity
from personascope.models._stack import LayerStack, block_output, layer_stack, replace_block_output

if TYPE_CHECKING:
    from personascope.models._load import LoadedModel


class Steered:
    """State of a plan on the sequences of the newest ``generate`` or forward call.

    Attributes:
        plan: Plan that is applied.
    """

    def __init__(self, plan: Plan) -> None:
        """Begin with nothing counted."""
        self.plan = plan
        self._table = PlanTable([plan], response_only=False)
        self._pass: BatchedPlans | None = None
        self._extents: list[TokenSpans] = []
        self._fed: list[int] = []
        self._counts: list[CapCounts] = []
        self._whole: tuple[Tensor, Tensor] | None = None

    @property
    def cap_stats(self) -> list[CapStats]:
        """Cap statistics of each row of the newest call; empty before the first."""
        return [counts.stats(self.plan) for counts in self._counts]

    def begin(self, call: BackboneCall) -> None:
        """Prepare for a forward pass.

        Raises:
            InterventionError: If a batch continues with another number of rows.
        """
        rows, width = call.tokens.shape[:2]
        counted = torch.ones(rows, width, dtype=torch.bool)
        if call.mask is not None:
            counted = call.mask[:, -width:].bool().cpu()
        if call.past == 0:
            self._fed = [0] * rows
            self._counts = [CapCounts()] * rows
            if not self._repeats(call, counted):
                self._extents = [TokenSpans(int(count)) for count in counted.sum(-1)]
            self._whole = (call.tokens, counted) if call.cache is None else None
        if len(self._fed) != rows:
            raise InterventionError(
                f"a sequence of {len(self._fed)} rows goes on with {rows}",
                hint="give the steered model whole batches; beams that are reordered cannot be followed",
            )
        # Padding on the left gets positions below 0, so it belongs to no part.
        places = counted.long().cumsum(-1) - 1 + torch.tensor(self._fed)[:, None]
        self._new = counted.sum(-1).tolist()
        self._counters = CapCounters(rows)
        self._pass = BatchedPlans(self._table, [self.plan] * rows, self._counters, self._extents)
        self._pass.at(places, counted)

    def _repeats(self, call: BackboneCall, counted: Tensor) -> bool:
        """Return whether a call without a cache repeats the tokens of the last one and adds one.

        That is how ``generate`` calls a model without a cache: tokens after the first call are the response.
        """
        if call.cache is not None or self._whole is None:
            return False
        tokens, mask = self._whole
        width = tokens.shape[1]
        return (
            call.tokens.shape[:2] == (tokens.shape[0], width + 1)
            and torch.equal(call.tokens[:, :width], tokens)
            and torch.equal(counted[:, :width], mask)
        )

    def edit(self, layer: int, hidden: Tensor) -> Tensor:
        """Return a layer's residual stream [rows, tokens, d] after the plan's operations."""
        if self._pass is None:
            raise InterventionError(
                f"layer {layer} ran outside of the model's backbone",
                hint="call the model itself, not its layers, while it is steered",
            )
        return self._pass(layer, hidden) if layer in self._pass.layers else hidden

    def end(self) -> None:
        """Add the cap counts and tokens of the forward pass to those of the rows."""
        self._pass = None
        self._counters.finish()
        for row, new in enumerate(self._new):
            fed = self._fed[row]
            acted = tokens_acted_on(self.plan, self._extents[row], fed, fed + new)
            self._counts[row] = self._counts[row] + self._counters.counts(row, acted)
            self._fed[row] = fed + new


@contextmanager
def steered(model: PreTrainedModel | LoadedModel, plan: Plan) -> Generator[Steered]:
    """Apply a plan to every forward pass of a model within a ``with`` block.

    A forward pass without a cache, or with an empty one, is a prompt. Passes with a filled cache (as in
    ``model.generate``) are the response to it. Without a cache, a pass over the same tokens and one more
    continues the response. Padding is recognised by the attention mask.

    Args:
        model: Causal model of Transformers, or a `LoadedModel`. Its hooks are removed after the block.
        plan: Plan to apply. Operations from a turn on, or on a part of the response, need an engine.

    Yields:
        State of the plan, with the cap statistics of the newest call.

    Raises:
        InterventionError: If the plan does not fit the model, or names a turn or a part of a response.
        ModelError: If the model's layer stack cannot be found, or its folder cannot be read any more.
    """
    stack: LayerStack
    if isinstance(model, PreTrainedModel):
        stack = layer_stack(model)
        identity = model_identity(model)
        name, revision = identity.id, identity.revision
    else:
        stack, name, revision = model.stack, model.model_id, model.revision
    plan.check_model(model_id=name, revision=revision, n_layers=stack.n_layers, d_model=stack.d_model)
    named = [op.tokens for op in plan.ops if op.tokens.startswith("turn:") or op.tokens in REPLY_PARTS]
    if named:
        raise InterventionError(
            f"the plan acts on {named[0]}, and a bare model does not know where turns and their parts begin",
            hint="run it through an engine, or act on the prompt or the response",
        )
    state = Steered(plan)
    handles = [
        stack.backbone.register_forward_pre_hook(_begin(state), with_kwargs=True),
        stack.backbone.register_forward_hook(lambda *_: state.end()),
    ]
    handles += [stack.blocks[layer].register_forward_hook(_edit(state, layer)) for layer in plan.layers]
    try:
        yield state
    finally:
        for handle in handles:
            handle.remove()


def _begin(state: Steered) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            call = BackboneCall.of(module, inputs, options)
        except ModelError as error:
            raise InterventionError(f"the steered model: {error.message}", hint=error.hint) from error
        state.begin(call)

    return hook


def _edit(state: Steered, layer: int) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return replace_block_output(output, state.edit(layer, block_output(output)))

    return hook
