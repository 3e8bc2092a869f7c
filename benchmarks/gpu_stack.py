"""A stack of decoder blocks of Llama's shape with random weights, for `gpu_graphs.py`.

Its element-wise parts are Triton kernels, as in a serving engine: a slow stack would hide what is measured.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
import triton
import triton.language as tl
from torch import Tensor

After = Callable[[int, Tensor, Tensor], None]
"""Takes a block's number, its hidden and its residual, [batch, d] each, and may change both in place."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a stack.

    Attributes:
        n_layers: Decoder blocks.
        d_model: Width of the residual stream.
        n_heads: Heads of queries.
        n_kv: Heads of keys and values.
        d_ff: Width inside the feed-forward layers.
        context: Tokens that each row attends to.
        tokens: Tokens of a step at most, for which the runtime makes room.
        dtype: Of weights and streams.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv: int
    d_ff: int
    context: int = 512
    tokens: int = 8192
    dtype: torch.dtype = torch.bfloat16

    @property
    def d_kv(self) -> int:
        """Width of keys, and of values."""
        return self.d_model // self.n_heads * self.n_kv

    def bytes_for(self, batch: int) -> int:
        """Return about what weights, keys and values, and the tables of six runtimes take."""
        d, size = self.d_model, self.dtype.itemsize
        weights = d * (d + 2 * self.d_kv) + d * d + 3 * d * self.d_ff
        cache = 2 * batch * self.context * self.d_kv
        tables = 6 * 4 * d * (65 * 2 + 513 + 9 * 4)
        return self.n_layers * ((weights + cache) * size + tables)

    def described(self) -> str:
        """Return its sizes in words."""
        return (
            f"{self.n_layers} blocks of width {self.d_model}, {self.n_heads} heads on {self.n_kv}, "
            f"{str(self.dtype).removeprefix('torch.')}, {self.context} tokens of context"
        )


SHAPES = (
    Shape(32, 4096, 32, 8, 14336),
    Shape(16, 4096, 32, 8, 14336),
    Shape(16, 2048, 16, 8, 7168),
    Shape(8, 1024, 8, 4, 3584),
)
"""The largest that fits is taken; the first is that of a model of 8 billion parameters."""

TOY = Shape(2, 32, 2, 1, 64, context=4, tokens=16, dtype=torch.float32)


def shape_for(device: torch.device, batch: int) -> Shape:
    """Return the largest shape that a device has room for, a toy for a CPU."""
    if device.type == "cpu":
        return TOY
    free = torch.cuda.mem_get_info(device)[0]
    return next((shape for shape in SHAPES if shape.bytes_for(batch) < 0.75 * free), SHAPES[-1])


class Stack:
    """The blocks, and room for the keys and values of a batch."""

    def __init__(self, shape: Shape, device: torch.device, batch: int) -> None:
        """Draw weights, keys and values."""
        self.shape, self.device, self.dtype = shape, device, shape.dtype
        self._draws = torch.Generator(device).manual_seed(0)
        d = shape.d_model
        self.blocks = [
            {
                "norm": torch.ones(d, dtype=self.dtype, device=device),
                "qkv": self._drawn(d + 2 * shape.d_kv, d),
                "out": self._drawn(d, d),
                "up": self._drawn(2 * shape.d_ff, d),
                "down": self._drawn(d, shape.d_ff),
                "kv": self._drawn(2, batch, shape.n_kv, shape.context, d // shape.n_heads, scale=1.0),
            }
            for _ in range(shape.n_layers)
        ]

    def _drawn(self, *size: int, scale: float | None = None) -> Tensor:
        made = torch.empty(size, dtype=self.dtype, device=self.device)
        return made.normal_(std=size[-1] ** -0.5 if scale is None else scale, generator=self._draws)

    def inputs(self, batch: int) -> Tensor:
        """Return embeddings of a batch of tokens, [batch, d]."""
        return self._drawn(batch, self.shape.d_model, scale=1.0)

    def forward(self, x: Tensor, after: After | None, layers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Decode one token a row.

        Args:
            x: Embeddings, [batch, d].
            after: Is called after some blocks, with the block's number and what it hands on.
            layers: Numbers of those blocks.

        Returns:
            What the last block hands on: hidden and residual, [batch, d] each, whose sum is the stream.
        """
        hidden, residual = x, torch.zeros_like(x)
        for layer, block in enumerate(self.blocks):
            hidden = self._block(block, hidden, residual)
            if after is not None and layer in layers:
                after(layer, hidden, residual)
        return hidden, residual

    def _block(self, block: dict[str, Tensor], hidden: Tensor, residual: Tensor) -> Tensor:
        """Add to residual in place; return what is to be added to it next."""
        shape, batch = self.shape, len(hidden)
        qkv = F.linear(add_norm(hidden, residual, block["norm"]), block["qkv"])
        queries, *new = qkv.split([shape.d_model, shape.d_kv, shape.d_kv], dim=-1)
        keys, values = block["kv"][:, :batch].unbind()
        for held, added in zip((keys, values), new, strict=True):
            held[:, :, -1] = added.view(batch, shape.n_kv, -1)
        # The heads that share keys stand where tokens do: all of them see all of the context.
        queries = queries.reshape(batch, shape.n_kv, -1, keys.shape[-1])
        attended = F.scaled_dot_product_attention(queries, keys, values)
        hidden = F.linear(attended.reshape(batch, -1), block["out"])
        up = F.linear(add_norm(hidden, residual, block["norm"]), block["up"])
        return F.linear(gated(up), block["down"])


def add_norm(hidden: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
    """Add hidden to residual in place, and return its RMS norm times a weight; all [tokens, d]."""
    out = torch.empty_like(hidden)
    d = hidden.shape[-1]
    kernel: Any = _add_norm
    kernel[(len(hidden),)](hidden, residual, weight, out, d, BLOCK=triton.next_power_of_2(d), num_warps=8)
    return out


def gated(up: Tensor) -> Tensor:
    """Return SiLU of the first half of each row times the second half."""
    half = up.shape[-1] // 2
    out = up.new_empty(len(up), half)
    block = min(1024, triton.next_power_of_2(half))
    kernel: Any = _gated
    kernel[(len(up), triton.cdiv(half, block))](up, out, half, BLOCK=block)
    return out


@triton.jit
def _add_norm(hidden, residual, weight, out, d, BLOCK: tl.constexpr):  # noqa: N803
    at = tl.arange(0, BLOCK)
    inside = at < d
    row = tl.program_id(0) * d + at
    stream = tl.load(hidden + row, mask=inside, other=0.0).to(tl.float32)
    stream += tl.load(residual + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(residual + row, stream.to(residual.dtype.element_ty), mask=inside)
    normed = stream / tl.sqrt(tl.sum(stream * stream, axis=0) / d + 1e-6)
    normed *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gated(up, out, half, BLOCK: tl.constexpr):  # noqa: N803
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < half
    token = tl.program_id(0).to(tl.int64)
    gate = tl.load(up + token * 2 * half + at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(up + token * 2 * half + half + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(
        out + token * half + at, (gate / (1 + tl.exp(-gate)) * value).to(out.dtype.element_ty), mask=inside
    )
