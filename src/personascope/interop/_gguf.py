"""Export plans as llama.cpp control vectors.

By its source, llama.cpp adds ``direction.N`` to the residual stream of block N after the block's feed-forward
part, at every token. Blocks are 0-based, so N is this project's layer, without a shift. Block 0 has no slot:
a file with ``direction.0`` is rejected. Tensors must be float32 with one dimension. Without
``--control-vector-layer-range`` the range is 1 to the number of blocks, which is all that the file holds;
both ends of a given range are included. The metadata keys are informative only: the loader takes blocks and
width from the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from personascope.errors import InteropError, StoreError
from personascope.interventions import Plan, Steer
from personascope.store import remove, sync, tmp_path

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURE = "controlvector"


def export_control_vector(plan: Plan, path: Path | str, *, scale: float = 1.0, model_hint: str = "") -> None:
    """Write a plan of `Steer` operations as a GGUF control vector for llama.cpp.

    ``direction.N`` is scale * amount * direction, summed over the operations of layer N, so that
    ``llama-cli --control-vector FILE`` adds what the plan adds. With a plan along the Assistant Axis
    (`axis_plan`) a positive scale is toward the Assistant.

    Args:
        plan: Plan of Steers on all tokens, at layer 1 or later.
        path: ``.gguf`` file to write.
        scale: Factor on every direction.
        model_hint: Model that the vector is for, for people; by convention llama.cpp's name of the
            architecture. By default it is the id of the plan's model.

    Raises:
        InteropError: If the plan holds what a control vector cannot do, by name: another operation, a
            Steer on some tokens only, or one at layer 0; or the scale is 0 or not finite; or the gguf
            package is not installed.
        StoreError: If the file cannot be written.
    """
    if not math.isfinite(scale) or scale == 0:
        raise InteropError(f"the scale is {scale}", hint="give a number other than 0")
    directions = _directions(plan, scale)
    hint = model_hint or (plan.model.id if plan.model else "unknown")
    tensors = {f"direction.{layer}": direction for layer, direction in directions.items()}
    with gguf_file(Path(path), tensors) as writer:
        writer.add_string(f"{ARCHITECTURE}.model_hint", hint)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(directions))


@contextmanager
def gguf_file(path: Path, tensors: Mapping[str, np.ndarray]) -> Generator[GGUFWriter]:
    """Yield the writer of a control vector's file for its fields, then write the file, whole or not at all.

    Args:
        path: File to write.
        tensors: Name -> tensor, in the order of the file.

    Raises:
        InteropError: If the gguf package is not installed.
        StoreError: If the file cannot be written.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise InteropError(
            "the gguf package is not installed", hint='pip install "personascope[gguf]"'
        ) from error
    tmp = tmp_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = GGUFWriter(tmp, ARCHITECTURE)
        try:
            yield writer
            for name, values in tensors.items():
                writer.add_tensor(name, values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        sync(tmp)
        tmp.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}",
            hint="free space or choose another file",
        ) from error
    finally:
        remove(tmp)


def _directions(plan: Plan, scale: float) -> dict[int, np.ndarray]:
    """Return the vector added at each layer, ascending, float32 [d]."""
    totals: dict[int, np.ndarray] = {}
    for op in plan.ops:
        why = ""
        if not isinstance(op, Steer):
            why = "llama.cpp adds a vector and does nothing else"
            hint = "serve it by `personascope serve --plan`, which caps; or export a plan of Steers"
        elif op.tokens != "all":
            why, hint = f"it acts on {op.tokens!r}, llama.cpp on every token", 'make it with tokens="all"'
        elif op.layer == 0:
            why, hint = "llama.cpp has no control vector at block 0", "steer at layer 1 or later"
        else:
            wide = op.direction.astype(np.float64) * op.amount * scale
            totals[op.layer] = totals.get(op.layer, 0.0) + wide
            continue
        kind = f"{type(op).__name__} at layer {op.layer}"
        raise InteropError(f"{kind} cannot be a control vector: {why}", hint=hint)
    return {layer: totals[layer].astype(np.float32) for layer in sorted(totals)}
