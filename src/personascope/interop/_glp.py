"""Export directions that are projected out, as GLP files (GGUF Layer Projection).

GLP (its specification is ``spec/GLP.md`` of github.com/msuiche/weightless, version 1) takes the container
of llama.cpp's control vectors, ``direction.N`` for block N, and says in ``glp.mode`` what is done with them.
With "project" a reader subtracts alpha * <h, d> * d from the residual stream after block N, d of length 1:
that is `Ablate` to 0 at every token. It has no floor and no ceiling, so a `Cap` cannot be written.

llama.cpp itself reads none of these fields: it would add the directions, without an error. Its loader refuses
a file with a tensor of any other name, and readers of GLP leave such a tensor alone, so one is put first.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from personascope.errors import InteropError
from personascope.interop._gguf import gguf_file
from personascope.interventions import Ablate, Cap, Plan

SPEC_VERSION = 1
GUARD = "glp.project"
"""Name of the tensor at which llama.cpp's loader stops."""
HOOK = "residual_stream_post_layer"
_SERVE = "serve it by `personascope serve --plan`, which does what the plan says"


def export_projection(plan: Plan, path: Path | str, *, method: str = "", guard: bool = True) -> None:
    """Write a plan of `Ablate` operations as a GLP file, for readers that project directions out.

    Args:
        plan: Plan of Ablates to 0 on all tokens, one a layer, at layer 1 or later.
        path: ``.gguf`` file to write.
        method: How the directions were made, for people, such as "difference_of_means".
        guard: Whether to write a first tensor that makes llama.cpp refuse the file. Without it llama.cpp adds
            the directions, which pushes every token along them.

    Raises:
        InteropError: If the plan holds what such a file cannot do, by name; or the gguf package is not
            installed.
        StoreError: If the file cannot be written.
    """
    directions = _directions(plan)
    tensors = {f"direction.{layer}": direction for layer, direction in directions.items()}
    digest = hashlib.sha256()
    for direction in directions.values():
        digest.update(direction.astype("<f4").tobytes())
    first = {GUARD: np.ones(1, np.float32)} if guard else {}
    with gguf_file(Path(path), {**first, **tensors}) as writer:
        writer.add_string("glp.mode", "project")
        writer.add_uint32("glp.spec_version", SPEC_VERSION)
        writer.add_string("glp.hook_point", HOOK)
        writer.add_float32("glp.alpha_default", 1.0)
        writer.add_uint32("glp.rank", 1)
        writer.add_bool("glp.orthonormal", True)
        writer.add_string("glp.layer_ids_zero_based", ",".join(map(str, directions)))
        writer.add_string("glp.content_sha256", digest.hexdigest())
        if method:
            writer.add_string("glp.method", method)
        if plan.model is not None:
            owner, _, name = plan.model.id.rpartition("/")
            writer.add_uint32("general.base_model.count", 1)
            writer.add_string("general.base_model.0.name", name)
            if owner:
                writer.add_string("general.base_model.0.organization", owner)
            if plan.model.revision:
                writer.add_string("general.base_model.0.version", plan.model.revision)


def _directions(plan: Plan) -> dict[int, np.ndarray]:
    """Return the unit direction that is projected out at each layer, ascending, float32 [d]."""
    found: dict[int, np.ndarray] = {}
    for op in plan.ops:
        hint = _SERVE
        if isinstance(op, Cap):
            why = "it removes the whole projection, and a cap holds it at its floor or ceiling"
        elif not isinstance(op, Ablate):
            why, hint = "it projects directions out and adds nothing", "export it by --to gguf"
        elif op.to != 0:
            why = f"it sets the projection to 0, and this one sets it to {op.to:g}"
        elif op.tokens != "all":
            why, hint = f"it acts on every token, and this one on {op.tokens!r}", 'make it with tokens="all"'
        elif op.layer == 0:
            why, hint = "it has no direction at block 0", "ablate at layer 1 or later"
        elif op.layer in found:
            why, hint = "it has one direction a layer", "export one of them"
        else:
            found[op.layer] = np.ascontiguousarray(op.direction, np.float32)
            continue
        kind = f"{type(op).__name__} at layer {op.layer}"
        raise InteropError(f"{kind} cannot be a GLP file: {why}", hint=hint)
    return {layer: found[layer] for layer in sorted(found)}
