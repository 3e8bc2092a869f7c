"""One opaque operation after each instrumented block, so that ``torch.compile`` keeps it and its order.

It is declared to change the block's outputs in place. The runtime is passed by number, because an operation
takes only tensors and numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from personascope.engines._vllm.worker._runtime import Runtime
from personascope.errors import EngineError

RUNTIMES: list[Runtime] = []
"""Every runtime of this process."""

_library = torch.library.Library("personascope", "DEF")
_library.define("pair(Tensor(a!) hidden, Tensor(b!) residual, int runtime, int layer) -> ()")
_library.define("single(Tensor(a!) hidden, int runtime, int layer) -> ()")


def _pair(hidden: Tensor, residual: Tensor, runtime: int, layer: int) -> None:
    RUNTIMES[runtime].layer(layer, hidden, residual)


def _single(hidden: Tensor, runtime: int, layer: int) -> None:
    # vLLM runs some architectures with Transformers' own blocks, whose streams have a batch dimension of one.
    RUNTIMES[runtime].layer(layer, hidden[0] if hidden.ndim == 3 and len(hidden) == 1 else hidden, None)


for _key in ("CPU", "CUDA"):
    _library.impl("pair", _pair, _key)
    _library.impl("single", _single, _key)
_library.impl("pair", lambda _hidden, _residual, _runtime, _layer: None, "Meta")
_library.impl("single", lambda _hidden, _runtime, _layer: None, "Meta")


def instrument(block: nn.Module, runtime: int, layer: int) -> None:
    """Make a block call the runtime after its forward pass, by giving it a subclass of its class.

    A hook would force eager mode, and a change of the class would affect every model of the process.
    """
    block.personascope_runtime = runtime  # type: ignore[assignment]
    block.personascope_layer = layer  # type: ignore[assignment]
    block.__class__ = _instrumented(type(block))


_classes: dict[type[nn.Module], type[nn.Module]] = {}


def _instrumented(cls: type[nn.Module]) -> type[nn.Module]:
    if cls not in _classes:

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            out = cls.forward(self, *args, **kwargs)
            if isinstance(out, Tensor):
                single = torch.ops.personascope.single if torch.compiler.is_compiling() else _single
                single(out, self.personascope_runtime, self.personascope_layer)
            elif (
                isinstance(out, tuple)
                and len(out) == 2
                and isinstance(out[0], Tensor)
                and isinstance(out[1], Tensor)
            ):
                # Outside a compiled graph the dispatcher would only cost time.
                pair = torch.ops.personascope.pair if torch.compiler.is_compiling() else _pair
                pair(out[0], out[1], self.personascope_runtime, self.personascope_layer)
            else:
                raise EngineError(
                    f"{cls.__name__} returns neither its residual stream nor (hidden, residual)",
                    hint="run this architecture on the transformers engine",
                )
            return out

        _classes[cls] = type(f"Personascope{cls.__name__}", (cls,), {"forward": forward})
    return _classes[cls]


def decoder_blocks(model: nn.Module, n_layers: int) -> dict[int, nn.Module]:
    """Return the decoder blocks by layer, placeholders of other pipeline stages included.

    They are the only list of as many modules as the model has layers.

    Raises:
        EngineError: If there is not exactly one such list.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    # A list inside a block (of experts, say) is not the stack.
    tops = [
        (name, module)
        for name, module in lists
        if not any(name != other and name.startswith(f"{other}.") for other, _ in lists)
    ]
    if len(tops) != 1:
        raise EngineError(
            f"the model has {len(tops)} lists of {n_layers} blocks"
            + (f" ({', '.join(name for name, _ in tops)})" if tops else ""),
            hint="run this architecture on the transformers engine",
        )
    return dict(enumerate(tops[0][1]))
