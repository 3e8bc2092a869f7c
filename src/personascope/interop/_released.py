"""Hold the vectors that the authors released for one model (section 7 of METHOD)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from personascope.errors import InteropError, StoreError
from personascope.interop._capping import CappingConfig, CappingVector, Ceiling
from personascope.interop._folder import new_folder
from personascope.interop._release_file import RELEASED_JSON
from personascope.interop._steering import axis_plan
from personascope.interventions import Plan, PlanModel
from personascope.store import Record, file_sha256, read_record, write_bytes, write_record

FORMAT = 1
RELEASED_TENSORS = "released.safetensors"
_AGAIN = "import it again from where it came from"
_TURNED = -0.2
"""Cosine below which an axis is reversed, beyond rounding: at early layers it can be short against bfloat16's
steps."""


class _CappingRecord(Record):
    layers: list[tuple[str, int]]
    experiments: list[tuple[str, list[tuple[str, float]]]]
    metadata: dict[str, Any]


class _ReleasedRecord(Record):
    source: str
    roles: list[str]
    traits: list[str]
    types: dict[str, str]
    metadata: dict[str, Any]
    capping: _CappingRecord | None
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Released:
    """Released vectors of one model; layer l is the output of block l.

    The axis points toward the Assistant. Tensors keep the dtype of the file, bit for bit. A release cannot
    become a PersonaMap, because the files lack the counts, folds and quantiles behind a map's statistics.

    Attributes:
        axis: Assistant Axis, not scaled.
        default_vector: Mean activation of the default.
        role_vectors: Role -> mean activation of its responses.
        trait_vectors: Trait -> mean(positive) - mean(negative).
        role_mean: Mean of the role vectors, where a file gives it without them.
        capping: Capping config, in the released orientation (role - default).
        types: "role/<name>" or "trait/<name>" -> type that its file names, such as "pos_3".
        metadata: Other contents of the axis's file, as plain values.
        source: Folder, file or hub id that it was read from.

    Raises:
        InteropError: If shapes differ, the axis is zero at a layer, or the axis is reversed: its cosine with
            default - mean(roles) is below -0.2 at a layer, or its median over layers is not positive.
    """

    axis: Float[Tensor, "L d"]
    default_vector: Float[Tensor, "L d"] | None = None
    role_vectors: Mapping[str, Float[Tensor, "L d"]] = field(default_factory=dict[str, Tensor])
    trait_vectors: Mapping[str, Float[Tensor, "L d"]] = field(default_factory=dict[str, Tensor])
    role_mean: Float[Tensor, "L d"] | None = None
    capping: CappingConfig | None = None
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse vectors of different models, and a reversed axis."""
        for name, tensor in self._tensors():
            if tensor.shape != self.axis.shape:
                raise InteropError(
                    f"{self._title}{name} has shape {list(tensor.shape)}, the axis {list(self.axis.shape)}",
                    hint="take all files of one model",
                )
        if not bool((self.axis.float().norm(dim=1) > 0).all()):
            raise InteropError(f"{self._title}the axis is zero at a layer", hint="make the axis again")
        if self.capping is not None:
            self.capping.axis_cosines(self.axis)
        self._check_sign()

    @property
    def n_layers(self) -> int:
        """Number of layers, L."""
        return self.axis.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the residual stream, d."""
        return self.axis.shape[1]

    def sign_cosines(self) -> Float[np.ndarray, "L"] | None:
        """Return the axis's cosine with default - mean(roles) at each layer, or None where these are missing.

        It is near 1 in the released files, and checks that the axis points toward the Assistant.
        """
        if self.default_vector is None:
            return None
        if self.role_vectors:
            total = torch.zeros(self.axis.shape, dtype=torch.float64)
            for vector in self.role_vectors.values():
                total += vector
            mean = total / len(self.role_vectors)
        elif self.role_mean is not None:
            mean = self.role_mean.double()
        else:
            return None
        return torch.cosine_similarity(self.axis.double(), self.default_vector.double() - mean, dim=1).numpy()

    def directions(self) -> dict[str, Float32[np.ndarray, "L d"]]:
        """Return directions to steer along or to project on, float32, not scaled.

        Returns:
            "axis" points toward the Assistant. "role/<name>" points from the default to the role, and needs
            the default vector (a role vector alone is mostly what all activations share). "trait/<name>"
            points toward the trait.
        """
        found = {"axis": self.axis.float().numpy()}
        if self.default_vector is not None:
            default = self.default_vector.float()
            found |= {
                f"role/{name}": (vector.float() - default).numpy()
                for name, vector in self.role_vectors.items()
            }
        return found | {
            f"trait/{name}": vector.float().numpy() for name, vector in self.trait_vectors.items()
        }

    def axis_plan(
        self,
        layers: int | Sequence[int],
        strength: float,
        *,
        norm: float | Mapping[int, float] | None = None,
        tokens: str = "all",
        model: PlanModel | None = None,
    ) -> Plan:
        """Return a plan that steers along the axis; a positive strength is toward the Assistant.

        The arguments are those of `personascope.interop.axis_plan`. The release has no norms: give
        the mean norm of the residual stream at the layer, or a raw length as the strength.

        Raises:
            InteropError: If a layer does not exist or has no norm.
        """
        return axis_plan(self.axis.float().numpy(), layers, strength, norm=norm, tokens=tokens, model=model)

    def to_plan(self, experiment_id: str, *, model: PlanModel | None = None) -> Plan:
        """Return an experiment of the capping config as floors along the axis.

        Raises:
            InteropError: If there is no capping config or no such experiment (see `CappingConfig.plan`), or
                one of its vectors points toward the Assistant, unlike the released ones: its ceiling would
                hold the model away from the Assistant.
        """
        if self.capping is None:
            raise InteropError(
                f"{self._title}there is no capping config",
                hint="name a folder or a file that holds one; Gemma 2 27B was released without",
            )
        plan = self.capping.plan(experiment_id, model=model)
        cosines = self.capping.axis_cosines(self.axis)
        for ceiling in self.capping.experiments[experiment_id]:
            if cosines[ceiling.vector] > -_TURNED:
                raise InteropError(
                    f"{self._title}the capping vector {ceiling.vector!r} has cosine "
                    f"{cosines[ceiling.vector]:+.2f} with the axis: a ceiling on it would hold the model "
                    "away from the Assistant, and the released vectors are role - default (cosine -1)",
                    hint="if that is meant, use import_capping_config on the file alone",
                )
        return plan

    def save(self, folder: Path | str) -> None:
        """Write ``released.safetensors`` and ``released.json`` into a folder, whole or not at all.

        Raises:
            StoreError: If the folder cannot be written, or holds something else.
        """
        tensors = {"axis": self.axis, **dict(self._tensors())}
        record: dict[str, Any] = {
            "format": FORMAT,
            "source": self.source,
            "roles": list(self.role_vectors),
            "traits": list(self.trait_vectors),
            "types": dict(self.types),
            "metadata": dict(self.metadata),
            "capping": None,
        }
        if self.capping is not None:
            tensors |= {f"capping/{name}": stored.vector for name, stored in self.capping.vectors.items()}
            record["capping"] = {
                # Use a list, because the order of names is part of the file.
                "layers": [[name, stored.layer] for name, stored in self.capping.vectors.items()],
                "experiments": [
                    [name, [[ceiling.vector, ceiling.cap] for ceiling in ceilings]]
                    for name, ceilings in self.capping.experiments.items()
                ],
                "metadata": dict(self.capping.metadata),
            }
        # The folder may also hold norms that were measured for the release.
        names = (RELEASED_JSON, RELEASED_TENSORS, "norms.json")
        with new_folder(Path(folder), holds=names, kind="an imported release") as new:
            # Clone each tensor, because safetensors refuses tensors that share their storage.
            data = save({name: tensor.contiguous().clone() for name, tensor in tensors.items()})
            record["sha256"] = hashlib.sha256(data).hexdigest()
            write_bytes(new / RELEASED_TENSORS, data)
            write_record(new / RELEASED_JSON, record)

    @classmethod
    def load(cls, folder: Path | str) -> Released:
        """Read what `save` wrote.

        Raises:
            StoreError: If a file is missing, damaged, changed since it was written, or of another format.
            InteropError: If its contents do not fit together.
        """
        folder = Path(folder)
        record = read_record(folder / RELEASED_JSON, _ReleasedRecord, hint=_AGAIN, format=FORMAT)
        path = folder / RELEASED_TENSORS
        try:
            digest = file_sha256(path)
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise StoreError(f"{path} cannot be read: {error}", hint=_AGAIN) from error
        if digest != record.sha256:
            raise StoreError(f"{path} is not the file that {RELEASED_JSON} was written with", hint=_AGAIN)
        try:
            return cls(
                axis=tensors["axis"],
                default_vector=tensors.get("default_vector"),
                role_vectors={name: tensors[f"role_vectors/{name}"] for name in record.roles},
                trait_vectors={name: tensors[f"trait_vectors/{name}"] for name in record.traits},
                role_mean=tensors.get("role_mean"),
                capping=_capping(record.capping, tensors),
                types=record.types,
                metadata=record.metadata,
                source=record.source,
            )
        except KeyError as error:
            raise StoreError(f"{path} has no tensor {error}", hint=_AGAIN) from error

    @property
    def _title(self) -> str:
        return f"{self.source}: " if self.source else ""

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor [L, d] but the axis, with its name in the safetensors file."""
        if self.default_vector is not None:
            yield "default_vector", self.default_vector
        if self.role_mean is not None:
            yield "role_mean", self.role_mean
        for name, vector in self.role_vectors.items():
            yield f"role_vectors/{name}", vector
        for name, vector in self.trait_vectors.items():
            yield f"trait_vectors/{name}", vector

    def _check_sign(self) -> None:
        cosines = self.sign_cosines()
        if cosines is None:
            return
        turned = np.flatnonzero(cosines < _TURNED)
        if len(turned) or float(np.median(cosines)) <= 0:
            worst = int(cosines.argmin())
            raise InteropError(
                f"{self._title}the axis is turned round: it should point from the roles to the default, and "
                f"its cosine with default - mean(roles) is {cosines[worst]:+.2f} at layer {worst} (below "
                f"{_TURNED:g} at {len(turned)} of {len(cosines)} layers)",
                hint="either the axis holds role - default, then negate it; or the default vector is not "
                "this model's, or changed places with a role's",
            )


def _capping(record: _CappingRecord | None, tensors: Mapping[str, Tensor]) -> CappingConfig | None:
    if record is None:
        return None
    return CappingConfig(
        {name: CappingVector(tensors[f"capping/{name}"], layer) for name, layer in record.layers},
        {name: tuple(Ceiling(*pair) for pair in pairs) for name, pairs in record.experiments},
        record.metadata,
    )
