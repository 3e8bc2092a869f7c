"""Find the layer stack of a decoder by observing a forward pass, independently of the model family.

A model is fed two tokens once. The layer stack is the list of as many blocks as the config has layers
that runs in order, each block once, with outputs [1, 2, d]. Its nearest enclosing module that takes
token ids and returns a last hidden state is the backbone. The same pass shows whether the logits are
the head applied to that state. If not (soft-capping, scaling), the model's own forward is replayed with
a given state in place of the backbone's result, so that no formula of any family is repeated here.
"""

# pyright: reportPrivateUsage=false
# Copying a module without its hooks needs its private attributes.
from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from personascope.errors import ModelError
from personascope.models._call import BackboneCall, CallShape


@dataclass(frozen=True, slots=True, eq=False)
class LayerStack:
    """The decoder blocks of a model, with its backbone and head.

    Attributes:
        backbone: Model below the head, whose result has ``last_hidden_state`` [batch, tokens, d], after
            the final norm. `forward` calls it.
        blocks: Decoder blocks. The residual stream after ``blocks[l]`` is layer l, 0-based. It is
            ``hidden_states[l + 1]`` of Transformers for every block but the last, whose
            ``hidden_states`` entry Transformers takes after the final norm.
        lm_head: Output embedding.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        path: Dotted name of the block list in the model.
        head_is_plain: Whether the logits are exactly ``lm_head(last_hidden_state)``.
        call: Arguments that the backbone takes.
    """

    backbone: nn.Module
    blocks: tuple[nn.Module, ...]
    lm_head: nn.Module
    n_layers: int
    d_model: int
    path: str
    head_is_plain: bool
    call: CallShape
    _replay: Callable[[Tensor], Tensor]

    def forward(
        self,
        ids: Tensor,
        *,
        cache: Cache | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Pass tokens through the backbone.

        Args:
            ids: Token ids, [batch, tokens].
            cache: Cache of earlier tokens, to which these are added; None to keep none.
            mask: Attention mask over earlier and new tokens, [batch, all tokens]; None for all.
            positions: Position of each new token, [batch, tokens]; None to let the model count.

        Returns:
            The state after the final norm, [batch, tokens, d].

        Raises:
            ModelError: If the backbone takes no such argument.
        """
        arguments = self.call.arguments(cache=cache, mask=mask, positions=positions)
        return self.backbone(input_ids=ids, **arguments).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the model's own logits for a state after the final norm.

        Args:
            hidden: Slice of the backbone's ``last_hidden_state``, [batch, tokens, d].

        Returns:
            Logits [batch, tokens, vocabulary], with the scaling or soft-capping of the family, if any.
        """
        return self.lm_head(hidden) if self.head_is_plain else self._replay(hidden)


def block_output(output: Any) -> Tensor:
    """Return the residual stream [batch, tokens, d] in a decoder block's output.

    Raises:
        ModelError: If the output is neither a tensor nor a tuple or list that starts with one.
    """
    hidden = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(hidden, Tensor):
        raise ModelError(
            f"a decoder block returned {type(output).__name__}, not a tensor or a tuple that starts with one",
            hint="this model's blocks cannot be read; report the model's name",
        )
    return hidden


def replace_block_output(output: Any, hidden: Tensor) -> Any:
    """Return a decoder block's output with its residual stream replaced, in the same form."""
    block_output(output)
    if isinstance(output, tuple):
        return (hidden, *output[1:])
    return [hidden, *output[1:]] if isinstance(output, list) else hidden


@dataclass(slots=True)
class _Candidate:
    path: str
    blocks: nn.ModuleList
    calls: list[int] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)


def layer_stack(model: PreTrainedModel) -> LayerStack:
    """Find the layer stack of a causal language model by running two tokens through it.

    Args:
        model: Causal model of Transformers; in a multimodal one the text decoder is found. It is run at
            most six times on two or three tokens, without gradients.

    Raises:
        ModelError: If the model is an encoder-decoder, has no output embedding, cannot run on token ids
            alone or gives values that are not finite; if no single list of blocks runs once and in order,
            or a block returns several streams instead of one; if a later token changes the state of an
            earlier one, or the model does not count positions from 0; or if its logits cannot be computed
            from the last hidden state of the backbone.
    """
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    sizes = [getattr(config, key, None) for key in ("num_hidden_layers", "hidden_size", "vocab_size")]
    lm_head = cast("nn.Module | None", model.get_output_embeddings())
    if getattr(model.config, "is_encoder_decoder", False) or lm_head is None or None in sizes:
        raise ModelError(
            f"{name} is not a decoder with a language-model head", hint="use a causal language model"
        )
    n_layers, d_model, vocabulary = (int(size) for size in sizes if size is not None)
    candidates = [
        _Candidate(path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    states: dict[nn.Module, Any] = {}
    device = next(model.get_input_embeddings().parameters()).device
    ids = torch.tensor([[vocabulary // 3, vocabulary // 2]], device=device)
    with torch.inference_mode(), _watch(model, candidates, states), _named_failure(name):
        logits = model(input_ids=ids, **CallShape.of(model).arguments()).logits
    _check_finite(name, model, logits)
    path, blocks = _only_stack(name, candidates, n_layers, d_model)
    owners = (owner for owner in _enclosing(path) if model.get_submodule(owner) in states)
    # A module that takes states instead of tokens (an encoder inside its model) is no backbone.
    owner = next((owner for owner in owners if CallShape.of(model.get_submodule(owner)).ids), None)
    if owner is None:
        raise ModelError(
            f"{name}: no module around {path} returns a last hidden state",
            hint="use a decoder-only model of Transformers; report the model's name if it is one",
        )
    backbone = model.get_submodule(owner)
    output = states[backbone]
    replay = _replayer(model, owner, type(output))
    with torch.inference_mode(), _named_failure(name):
        plain = torch.equal(lm_head(output.last_hidden_state).float(), logits.float())
        if not plain and not _close(replay(output.last_hidden_state), logits):
            raise ModelError(
                f"{name}: its logits cannot be computed from the last hidden state of {owner}",
                hint="report the model's name: it does more than its head between that state and the logits",
            )
        _check_causal(name, backbone, ids, vocabulary)
        _check_positions(name, backbone, ids)
    return LayerStack(
        backbone=backbone,
        blocks=tuple(blocks),
        lm_head=lm_head,
        n_layers=n_layers,
        d_model=d_model,
        path=path,
        head_is_plain=plain,
        call=CallShape.of(backbone),
        _replay=replay,
    )


def _only_stack(
    name: str, candidates: list[_Candidate], n_layers: int, d_model: int
) -> tuple[str, nn.ModuleList]:
    """Return the only list of blocks that ran once, in order, each with an output of one stream [1, 2, d]."""
    ran = [c for c in candidates if c.calls == list(range(n_layers))]
    # A list inside a block of the stack is no stack itself.
    ran = [c for c in ran if not any(c.path.startswith(f"{other.path}.") for other in ran)]
    fits = [c for c in ran if c.shapes == {(1, 2, d_model)}]
    if len(fits) == 1:
        return fits[0].path, fits[0].blocks
    several = next((c for c in ran if any(len(shape) > 3 for shape in c.shapes)), None)
    if several is not None:
        shape = next(shape for shape in several.shapes if len(shape) > 3)
        raise ModelError(
            f"{name}: the blocks of {several.path} hand on several residual streams "
            f"({list(shape)} for two tokens), and directions and plans are of one",
            hint="use a model whose blocks return [batch, tokens, width]",
        )
    found = ", ".join(f"{c.path} giving {sorted(c.shapes)}" for c in fits or ran) or "none"
    raise ModelError(
        f"{name}: expected one list of {n_layers} blocks of width {d_model}, run in order; found {found}",
        hint="use a decoder-only model of Transformers; report the model's name if it is one",
    )


@contextmanager
def _named_failure(name: str) -> Generator[None]:
    """Convert any exception of a model's first forward passes into a `ModelError` that names the model."""
    try:
        yield
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        raise ModelError(
            f"{name} cannot run on token ids alone: {type(error).__name__}: {text}",
            hint="use a causal language model that needs no other input",
        ) from error


def _check_finite(name: str, model: PreTrainedModel, logits: Tensor) -> None:
    """Check that logits are finite; the error says whether a weight or the dtype is the cause."""
    if torch.isfinite(logits.amax(-1)).all():
        return
    bad = next((key for key, weight in model.named_parameters() if not is_finite(weight)), None)
    if bad is not None:
        raise ModelError(
            f"{name}: the weight {bad} holds NaN or infinity",
            hint="fetch the model again, or ask who trained it",
        )
    dtype = str(logits.dtype).removeprefix("torch.")
    raise ModelError(
        f"{name}: two tokens give logits that are not finite in {dtype}",
        hint="load it with --dtype bfloat16 or float32: many models overflow in float16",
    )


def is_finite(weight: Tensor) -> bool:
    """Return whether a weight holds neither NaN nor infinity; quantised weights are not checked."""
    if weight.is_meta or not weight.is_floating_point() or weight.dtype.itemsize < 2 or not weight.numel():
        return True
    # NaN propagates to minimum and maximum, and no copy of the weight's size is made.
    low, high = torch.aminmax(weight.detach())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _check_causal(name: str, backbone: nn.Module, ids: Tensor, vocabulary: int) -> None:
    """Check that the state of a token does not depend on later tokens, as in an encoder."""
    call = CallShape.of(backbone).arguments()
    states = [
        backbone(input_ids=torch.cat([ids, ids.new_tensor([[last]])], 1), **call).last_hidden_state[:, :2]
        for last in (vocabulary // 5, vocabulary // 4)
    ]
    difference = (states[0] - states[1]).float().norm()
    if difference > 0.02 * states[0].float().norm():
        raise ModelError(
            f"{name} is not causal: another third token changes its state after the first two",
            hint="use a decoder; an encoder with a language-model head reads both ways",
        )


def _check_positions(name: str, backbone: nn.Module, ids: Tensor) -> None:
    """Check that the model by itself counts positions from 0, as ``generate`` does."""
    call = CallShape.of(backbone)
    if not call.positions:
        return
    counted = torch.arange(ids.shape[1], device=ids.device)[None]
    own = backbone(input_ids=ids, **call.arguments()).last_hidden_state
    given = backbone(input_ids=ids, **call.arguments(positions=counted)).last_hidden_state
    if (own - given).float().norm() > 0.02 * own.float().norm():
        raise ModelError(
            f"{name} does not count positions from 0, as generate counts them: one text has two states",
            hint="use a decoder; the encoders of the RoBERTa kind begin after their padding index",
        )


def _close(a: Tensor, b: Tensor) -> bool:
    # Only the order of summation may differ. A missing soft-cap or scale makes a far larger difference.
    return torch.allclose(a.float(), b.float(), rtol=0.0, atol=1e-3 * float(b.float().abs().max()))


def _enclosing(path: str) -> list[str]:
    """Return the dotted names of the modules around a path, below the model, innermost first."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


@contextmanager
def _watch(model: nn.Module, candidates: list[_Candidate], states: dict[nn.Module, Any]) -> Generator[None]:
    """Record the calls of every candidate's blocks, and the outputs of modules with a last hidden state."""

    def watch_block(candidate: _Candidate, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            parts = output if isinstance(output, tuple | list) and output else (output,)
            shapes = [tuple(part.shape) if isinstance(part, Tensor) else () for part in parts]
            # A reversible block returns its two streams side by side.
            streams = shapes.count(shapes[0])
            candidate.calls.append(index)
            candidate.shapes.add(shapes[0] if streams == 1 or not shapes[0] else (streams, *shapes[0]))

        return hook

    def watch_owner(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(getattr(output, "last_hidden_state", None), Tensor):
            states[module] = output

    owners = {model.get_submodule(o) for candidate in candidates for o in _enclosing(candidate.path)}
    handles = [owner.register_forward_hook(watch_owner) for owner in owners]
    for candidate in candidates:
        for index, block in enumerate(candidate.blocks):
            handles.append(block.register_forward_hook(watch_block(candidate, index)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _StandIn(nn.Module):
    """Replacement of the backbone in a replay, which returns its input as the last hidden state."""

    def __init__(self, backbone: nn.Module, output_type: type) -> None:
        super().__init__()
        # In a tuple, so that the backbone's parameters are not registered a second time.
        self._original = (backbone,)
        self._output_type = output_type

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_original"][0], name)

    def forward(self, *args: Any, **options: Any) -> Any:
        call = BackboneCall.of(self._original[0], args, options)
        return self._output_type(last_hidden_state=call.tokens)


def _replayer(model: nn.Module, owner: str, output_type: type) -> Callable[[Tensor], Tensor]:
    """Return a function from a last hidden state to the logits, computed by the model's own forward.

    The modules from the model down to the backbone are copied without their hooks (the weights are
    shared), and the backbone of the copy is a stand-in that returns its input.
    """
    root = node = _bare_copy(model)
    *wrappers, last = owner.split(".")
    for part in wrappers:
        child = _bare_copy(node.get_submodule(part))
        node._modules[part] = child
        node = child
    node._modules[last] = _StandIn(model.get_submodule(owner), output_type)
    shape = CallShape.of(model)

    def replay(hidden: Tensor) -> Tensor:
        return root(inputs_embeds=hidden, **shape.arguments()).logits

    return replay


def _bare_copy(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin._forward_hooks = OrderedDict()
    twin._forward_pre_hooks = OrderedDict()
    # Accelerate sets a forward on the instance, which is bound to the original.
    twin.__dict__.pop("forward", None)
    return twin
