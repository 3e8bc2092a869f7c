"""The layer stack of a decoder, found by watching what runs instead of by the family's name.

A model is fed two tokens once. Whichever list of as many blocks as the config has layers then runs
in order, each block once, giving [1, 2, d], is the layer stack; its nearest enclosing model that
returns a last hidden state is the backbone. The same pass shows whether the logits are simply the
head applied to that state. Where they are not (soft-capping, scaling), the model's own forward is
replayed with the backbone's result put in, so that no formula of any family is repeated here.
"""

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

from personascope.errors import ModelError


@dataclass(frozen=True, slots=True, eq=False)
class LayerStack:
    """The decoder blocks of a model with what feeds them and what reads them.

    Attributes:
        backbone: Called with ``input_ids`` or ``inputs_embeds``, ``attention_mask``,
            ``position_ids``, ``past_key_values`` and ``use_cache``; its result has
            ``last_hidden_state`` [batch, tokens, d], after the final norm.
        blocks: The decoder blocks; the residual stream after ``blocks[l]`` is layer l, 0-based, that
            is ``hidden_states[l + 1]`` of Transformers for every block but the last, whose
            ``hidden_states`` entry Transformers takes after the final norm.
        lm_head: The output embedding.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        path: Dotted name of the block list in the model.
        head_is_plain: Whether the logits are ``lm_head(last_hidden_state)`` and nothing more.
    """

    backbone: nn.Module
    blocks: tuple[nn.Module, ...]
    lm_head: nn.Module
    n_layers: int
    d_model: int
    path: str
    head_is_plain: bool
    _replay: Callable[[Tensor], Tensor]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the model's own logits for a state after the final norm.

        Args:
            hidden: [batch, tokens, d], a slice of the backbone's ``last_hidden_state``.

        Returns:
            [batch, tokens, vocabulary], with the scaling or soft-capping of the family, if any.
        """
        return self.lm_head(hidden) if self.head_is_plain else self._replay(hidden)


def block_output(output: Any) -> Tensor:
    """Return the residual stream [batch, tokens, d] from what a decoder block returned.

    Raises:
        ModelError: If that is neither a tensor nor a tuple that starts with one.
    """
    hidden = output[0] if isinstance(output, tuple) and output else output
    if not isinstance(hidden, Tensor):
        raise ModelError(
            f"a decoder block returned {type(output).__name__}, not a tensor or a tuple that starts with one",
            hint="this model's blocks cannot be read; report the model's name",
        )
    return hidden


def replace_block_output(output: Any, hidden: Tensor) -> Any:
    """Return a decoder block's output with its residual stream replaced, in the form it had."""
    block_output(output)
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


@dataclass(slots=True)
class _Candidate:
    path: str
    blocks: nn.ModuleList
    calls: list[int] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)


def layer_stack(model: PreTrainedModel) -> LayerStack:
    """Find the layer stack of a causal language model by running two tokens through it.

    Args:
        model: Any causal model of Transformers, multimodal ones included (their text decoder is
            found). It is run once, without gradients.

    Raises:
        ModelError: If the model is an encoder-decoder, has no output embedding, if no single list of
            blocks runs once and in order, or if its logits cannot be computed from the last hidden
            state of any module around them.
    """
    name = type(model).__name__
    config = model.config.get_text_config(decoder=True)
    n_layers, d_model = int(config.num_hidden_layers), int(config.hidden_size)
    lm_head = cast("nn.Module | None", model.get_output_embeddings())
    if getattr(model.config, "is_encoder_decoder", False) or lm_head is None:
        raise ModelError(
            f"{name} is not a decoder with a language-model head", hint="use a causal language model"
        )
    candidates = [
        _Candidate(path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    states: dict[nn.Module, Any] = {}
    with torch.inference_mode(), _watch(model, candidates, states):
        logits = model(input_ids=_two_tokens(model), use_cache=False).logits
    ran = [c for c in candidates if c.calls == list(range(n_layers)) and c.widths == {d_model}]
    # A list inside a block of the stack is no stack of its own.
    ran = [c for c in ran if not any(c.path.startswith(f"{other.path}.") for other in ran)]
    if len(ran) != 1:
        found = ", ".join(candidate.path for candidate in ran) or "none"
        raise ModelError(
            f"{name}: expected one list of {n_layers} blocks of width {d_model}, run in order; found {found}",
            hint="use a decoder-only model of Transformers; report the model's name if it is one",
        )
    path = ran[0].path
    owner = next((owner for owner in _enclosing(path) if model.get_submodule(owner) in states), None)
    if owner is None:
        raise ModelError(
            f"{name}: no module around {path} returns a last hidden state",
            hint="use a decoder-only model of Transformers; report the model's name if it is one",
        )
    backbone = model.get_submodule(owner)
    output = states[backbone]
    replay = _replayer(model, owner, type(output))
    with torch.inference_mode():
        plain = torch.equal(lm_head(output.last_hidden_state).float(), logits.float())
        if not plain and not _close(replay(output.last_hidden_state), logits):
            raise ModelError(
                f"{name}: its logits cannot be computed from the last hidden state of {owner}",
                hint="report the model's name: it does more than its head between that state and the logits",
            )
    return LayerStack(
        backbone=backbone,
        blocks=tuple(ran[0].blocks),
        lm_head=lm_head,
        n_layers=n_layers,
        d_model=d_model,
        path=path,
        head_is_plain=plain,
        _replay=replay,
    )


def _two_tokens(model: PreTrainedModel) -> Tensor:
    """Return two ordinary token ids [1, 2] on the device of the input embedding."""
    embedding = model.get_input_embeddings()
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    ids = [vocabulary // 3, vocabulary // 2]
    return torch.tensor([ids], device=next(embedding.parameters()).device)


def _close(a: Tensor, b: Tensor) -> bool:
    # Only the order of a sum may differ; a soft-cap or a scale left out is far larger than this.
    return torch.allclose(a.float(), b.float(), rtol=0.0, atol=1e-3 * float(b.float().abs().max()))


def _enclosing(path: str) -> list[str]:
    """Return the dotted names of the modules around a path, below the model, innermost first."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


@contextmanager
def _watch(model: nn.Module, candidates: list[_Candidate], states: dict[nn.Module, Any]) -> Generator[None]:
    """Note the calls of every candidate's blocks, and what returns a last hidden state."""

    def watch_block(candidate: _Candidate, index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first: Any = output[0] if isinstance(output, tuple) and output else output
            candidate.calls.append(index)
            candidate.widths.add(first.shape[-1] if isinstance(first, Tensor) and first.ndim else 0)

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
    """Takes the backbone's place in a replay: returns its ``inputs_embeds`` as the last hidden state."""

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

    def forward(self, *_args: Any, inputs_embeds: Tensor, **_kwargs: Any) -> Any:
        return self._output_type(last_hidden_state=inputs_embeds)


def _replayer(model: nn.Module, owner: str, output_type: type) -> Callable[[Tensor], Tensor]:
    """Return a function from a last hidden state to the logits of the model's own forward.

    The modules from the model down to the backbone are copied without their hooks (the weights are
    shared), and the backbone of the copy is a stand-in that hands back what it is given.
    """
    root = node = _bare_copy(model)
    *wrappers, last = owner.split(".")
    for part in wrappers:
        child = _bare_copy(node.get_submodule(part))
        node._modules[part] = child
        node = child
    node._modules[last] = _StandIn(model.get_submodule(owner), output_type)

    def replay(hidden: Tensor) -> Tensor:
        return root(inputs_embeds=hidden, use_cache=False).logits

    return replay


def _bare_copy(module: nn.Module) -> nn.Module:
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    twin._forward_hooks = OrderedDict()
    twin._forward_pre_hooks = OrderedDict()
    # Accelerate puts a forward on the instance that is bound to the original.
    twin.__dict__.pop("forward", None)
    return twin
