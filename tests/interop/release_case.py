"""Files built as METHOD section 7 describes them, signs included."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

N_LAYERS, D = 6, 32
ROLES, TRAITS = ("bard", "ghost", "coral_reef", "judge"), ("calm", "wry")
ID = "layers_2:5-p0.25"


@dataclass
class Made:
    """The tensors of a release, in float64 before they were cast."""

    axis: Tensor
    default: Tensor
    roles: dict[str, Tensor]
    traits: dict[str, Tensor]
    capping: dict[str, Any] = field(default_factory=dict)


def make(seed: int = 0) -> Made:
    """Draw a release: roles around a large common part, the default off them, axis default - mean(roles)."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    common = 10 * draw(N_LAYERS, D)
    roles = {name: common + draw(N_LAYERS, D) for name in ROLES}
    default = common + 4 * draw(N_LAYERS, D)
    axis = default - torch.stack(list(roles.values())).mean(0)
    traits = {name: draw(N_LAYERS, D) for name in TRAITS}
    made = Made(axis, default, roles, traits)
    made.capping = capping(axis)
    return made


def capping(axis: Tensor, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    """Return a capping config: vectors role - default at every layer, ceilings on them."""
    names = {layer: f"layer_{layer}/role_against_default" for layer in range(len(axis))}
    return {
        # Of lengths other than 1, as a difference of means has.
        "vectors": {names[i]: {"vector": (-axis[i]).to(dtype), "layer": i} for i in names},
        "experiments": [
            {"id": ID, "interventions": [{"vector": names[i], "cap": 1.5 - i} for i in (2, 3, 4)]},
            {"id": "layers_3:4-p0.5", "interventions": [{"vector": names[3], "cap": -16.875}]},
        ],
    }


def write(folder: Path, made: Made, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write a released folder: raw tensors [L, d], each in a file of its own."""
    for name in ("role_vectors", "trait_vectors"):
        (folder / name).mkdir(parents=True)
    torch.save(made.axis.to(dtype), folder / "assistant_axis.pt")
    torch.save(made.default.to(dtype), folder / "default_vector.pt")
    for name, vector in made.roles.items():
        torch.save(vector.to(dtype), folder / "role_vectors" / f"{name}.pt")
    for name, vector in made.traits.items():
        torch.save(vector.to(dtype), folder / "trait_vectors" / f"{name}.pt")
    torch.save(made.capping, folder / "capping_config.pt")
    return folder


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors are equal to the last bit, type included."""
    if one is None or other is None:
        return one is other
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.view(torch.uint8), other.contiguous().view(torch.uint8))
    )


def same_release(one: Any, other: Any) -> bool:
    """Return whether two releases are the same but for where they came from."""
    vectors = [
        (one.role_vectors, other.role_vectors),
        (one.trait_vectors, other.trait_vectors),
        (stored(one), stored(other)),
    ]
    return (
        same(one.axis, other.axis)
        and same(one.default_vector, other.default_vector)
        and same(one.role_mean, other.role_mean)
        and all(list(a) == list(b) and all(same(a[name], b[name]) for name in a) for a, b in vectors)
        and (one.types, one.metadata) == (other.types, other.metadata)
        and config(one) == config(other)
    )


def stored(release: Any) -> dict[str, Tensor]:
    """Return the vectors of a release's capping config."""
    return {} if release.capping is None else {k: v.vector for k, v in release.capping.vectors.items()}


def config(release: Any) -> Any:
    """Return the rest of a release's capping config, as values that can be compared."""
    if release.capping is None:
        return None
    layers = [(name, entry.layer) for name, entry in release.capping.vectors.items()]
    return layers, list(release.capping.experiments.items()), release.capping.metadata
