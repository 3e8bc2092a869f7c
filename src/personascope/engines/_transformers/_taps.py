"""Hooks on the decoder blocks that edit and read the residual stream while the model runs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from personascope.interventions import BatchedPlans
from personascope.models import block_output, replace_block_output

Reader = Callable[[int, Tensor], None]


class StopForward(Exception):  # noqa: N818 - it ends a forward pass and never leaves the engine
    """Signal that the last layer to read has run."""


class ForwardHooks:
    """Forward hooks on every block: an editor changes and a reader reads the stream [rows, tokens, d].

    The reader gets the stream after the editor, as the next block does.

    Attributes:
        blocks: Decoder blocks.
        editor: Plans of the pass; None for no change.
        reader: Function called with (layer, residual stream); None to read nothing.
        before: Function called in the same way with the stream that the editor is about to change; None to
            read it only afterwards.
        layers: Layers to read.
        last: Layer after which `StopForward` ends a forward pass; None to run it to the end.
    """

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        """Store the blocks; hooks are set in ``attached``."""
        self.blocks = blocks
        self.editor: BatchedPlans | None = None
        self.reader: Reader | None = None
        self.before: Reader | None = None
        self.layers: frozenset[int] = frozenset()
        self.last: int | None = None
        self._depth = 0
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def attached(self) -> Generator[ForwardHooks]:
        """Set the hooks within a ``with`` block; a nested one sets no second hooks."""
        if self._depth == 0:
            self._handles = [
                block.register_forward_hook(self._hook(layer)) for layer, block in enumerate(self.blocks)
            ]
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.reader = self.before = self.editor = self.last = None
                for handle in self._handles:
                    handle.remove()

    def _hook(self, layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if self.editor is not None and layer in self.editor.layers:
                if self.before is not None and layer in self.layers:
                    self.before(layer, block_output(output))
                output = replace_block_output(output, self.editor(layer, block_output(output)))
            if self.reader is not None and layer in self.layers:
                self.reader(layer, block_output(output))
            if layer == self.last:
                raise StopForward
            return output

        return hook
