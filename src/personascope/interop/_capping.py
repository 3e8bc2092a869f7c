"""Read and write the released ``capping_config.pt`` (section 5 of the paper, section 5 of METHOD).

The released rule, for a vector u = v / |v| and its cap c, is h - max(<h, u> - c, 0) * u. The vectors point
from the default to the roles (role - default), so the cap is a CEILING on the way away from the Assistant.
Along the axis the same rule is a FLOOR: a Cap on -u with floor -c. It is imported in that form, so that a
plan has the axis's orientation.

A stored vector may have any length. The cap is compared with the projection on the unit vector, as METHOD
defines a projection and as the authors' own code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personascope.errors import InteropError
from personascope.interop._experiment import is_experiment_id, parse_experiment_id
from personascope.interop._pt import DTYPES, DtypeName, plain, read_pt, vectors, write_pt
from personascope.interventions import Cap, Op, Plan, PlanModel

_SAME, _APART = 1 - 1e-6, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class CappingVector:
    """A direction of a capping config as stored: role - default at one layer.

    Attributes:
        vector: Direction [d] of any length, in the dtype of the file.
        layer: Block index, 0-based.
    """

    vector: Float[Tensor, "d"]
    layer: int

    def unit(self) -> Float[np.ndarray, "d"]:
        """Return the unit vector, float64."""
        wide = self.vector.double().numpy()
        return wide / np.linalg.norm(wide)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """One intervention: the maximum projection on the unit vector of that name."""

    vector: str
    cap: float


@dataclass(frozen=True, slots=True, eq=False)
class CappingConfig:
    """A capping config as stored, in the released orientation.

    Attributes:
        vectors: Vector name -> vector and layer.
        experiments: Experiment id -> its ceilings, in order. An experiment without ceilings changes nothing.
        metadata: Other contents of the file, as plain values.
    """

    vectors: Mapping[str, CappingVector]
    experiments: Mapping[str, tuple[Ceiling, ...]]
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def plan(self, experiment: str, *, model: PlanModel | None = None) -> Plan:
        """Return an experiment as floors along the axis: Cap(layer, -vector, floor=-cap).

        Args:
            experiment: Id of an experiment of the config.
            model: Model of the vectors, which the file does not name.

        Raises:
            InteropError: If there is no such experiment, it holds no cap, its layers are not those of its id,
                or one layer is capped along two directions that are neither parallel nor orthogonal. The
                released rule applies such caps one after the other and a Plan applies them jointly, and the
                two differ.
        """
        if experiment not in self.experiments:
            known = list(self.experiments)
            more = f" and {len(known) - 12} more" if len(known) > 12 else ""
            raise InteropError(
                f"there is no experiment {experiment!r} in the capping config",
                hint=f"choose of {', '.join(known[:12])}{more}" if known else "the config holds none",
            )
        ceilings = self.experiments[experiment]
        if not ceilings:
            raise InteropError(
                f"the experiment {experiment!r} holds no cap",
                hint="for a plain run pass None instead of a plan",
            )
        ops: list[Op] = []
        for ceiling in ceilings:
            stored = self.vectors[ceiling.vector]
            # 0.0 - cap and not -cap, because a floor of -0.0 would have another digest than one of 0.0.
            ops.append(Cap(stored.layer, -stored.vector.float().numpy(), floor=0.0 - ceiling.cap))
        plan = Plan(tuple(ops), model, experiment)
        _check_layers(experiment, plan)
        _check_order(experiment, plan)
        return plan

    def plans(self, *, model: PlanModel | None = None) -> dict[str, Plan]:
        """Return the plan of every experiment that holds a cap, as `plan` does."""
        return {name: self.plan(name, model=model) for name, caps in self.experiments.items() if caps}

    def axis_cosines(self, axis: Float[Tensor, "L d"]) -> dict[str, float]:
        """Return each vector's cosine with the axis at its layer: -1 for role - default, as released.

        Raises:
            InteropError: If a vector has another width than the axis, or a layer beyond it.
        """
        cosines: dict[str, float] = {}
        for name, stored in self.vectors.items():
            if stored.layer >= len(axis) or stored.vector.numel() != axis.shape[1]:
                raise InteropError(
                    f"the capping vector {name!r} is {stored.vector.numel()} wide at layer {stored.layer}, "
                    f"the axis has {len(axis)} layers of {axis.shape[1]}",
                    hint="take both files of the same model",
                )
            row = axis[stored.layer].double().numpy()
            cosines[name] = float(stored.unit() @ row / np.linalg.norm(row))
        return cosines


def read_capping_config(path: Path | str) -> CappingConfig:
    """Read a ``capping_config.pt``.

    Raises:
        InteropError: If the file is unsafe, damaged, or not of that format.
    """
    path = Path(path)
    return capping_config(read_pt(path), path)


def capping_config(value: Any, path: Path) -> CappingConfig:
    """Convert the contents of a file to a capping config.

    Raises:
        InteropError: If they are not of the format; the message says where.
    """
    if not is_capping_config(value):
        raise InteropError(
            f"{path} is no capping config", hint='it must be a dict with "vectors" and "experiments"'
        )
    if not isinstance(value["vectors"], Mapping) or not isinstance(value["experiments"], list | tuple):
        raise InteropError(
            f"{path}: vectors is a {type(value['vectors']).__name__}, experiments a "
            f"{type(value['experiments']).__name__}",
            hint="vectors must be a dict of name to vector, experiments a list",
        )
    stored = {str(name): _vector(str(name), entry, path) for name, entry in value["vectors"].items()}
    widths = {entry.vector.numel() for entry in stored.values()}
    if len(widths) > 1:
        raise InteropError(
            f"{path}: the vectors are {', '.join(map(str, sorted(widths)))} wide", hint="all are of one model"
        )
    experiments: dict[str, tuple[Ceiling, ...]] = {}
    for number, entry in enumerate(value["experiments"]):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), str):
            raise InteropError(f"{path}: experiment {number} has no id", hint="give each a text as its id")
        if entry["id"] in experiments:
            raise InteropError(
                f"{path}: two experiments are called {entry['id']!r}", hint="rename one of them"
            )
        experiments[entry["id"]] = _ceilings(entry, stored, path)
    rest = {key: item for key, item in value.items() if key not in ("vectors", "experiments")}
    return CappingConfig(stored, experiments, plain(rest))


def is_capping_config(value: Any) -> bool:
    """Return whether the contents of a file have the keys of a capping config."""
    return isinstance(value, Mapping) and {"vectors", "experiments"} <= set(value)


def import_capping_config(
    path: Path | str, experiment: str | None = None, *, model: PlanModel | None = None
) -> dict[str, Plan]:
    """Read a ``capping_config.pt`` as plans: ceilings on role - default become floors on the axis.

    An id's ``p0.25`` is the 75th percentile along the axis; see `parse_experiment_id`.

    Args:
        path: File to read.
        experiment: Id of an experiment of the file; None for all that hold a cap.
        model: Model of the vectors, which the file does not name.

    Returns:
        Experiment id -> plan of that name.

    Raises:
        InteropError: If the file is unsafe, damaged, or not of the format, or an experiment cannot
            be a plan (see `CappingConfig.plan`).
    """
    config = read_capping_config(path)
    if experiment is None:
        return config.plans(model=model)
    return {experiment: config.plan(experiment, model=model)}


def export_capping_config(
    plans: Mapping[str, Plan], path: Path | str, *, dtype: DtypeName = "float32"
) -> None:
    """Write plans of caps as a ``capping_config.pt`` that the authors' code reads.

    A floor f on a direction d becomes the vector -d with the cap -f; a ceiling c on d becomes the vector d
    with the cap c. Vectors are written at unit length. A ceiling read back is a floor on -d, which moves
    every activation in the same way. The format does not store the model of a plan.

    Args:
        plans: Experiment id -> plan.
        path: File to write.
        dtype: Dtype of the vectors; bfloat16, as in the released files, rounds them.

    Raises:
        InteropError: If a plan holds what the format cannot express: Steer or Ablate, a Cap with two bounds,
            or a Cap that acts on some tokens only; or the layers are not those of the id.
        StoreError: If the file cannot be written.
    """
    if not plans:
        raise InteropError("there is no plan to export", hint="give at least one")
    known: dict[str, CappingVector] = {}
    experiments: list[dict[str, Any]] = []
    for name, plan in plans.items():
        entries = [_released(name, op) for op in plan.ops]
        _check_layers(name, plan)
        _check_order(name, plan)
        experiments.append(
            {
                "id": name,
                "interventions": [
                    {"vector": _name_of(known, vector, layer, label, DTYPES[dtype]), "cap": cap}
                    for vector, layer, label, cap in entries
                ],
            }
        )
    widths = {plan.d_model for plan in plans.values()}
    if len(widths) > 1:
        raise InteropError(
            f"the plans' directions are {', '.join(map(str, sorted(widths)))} wide",
            hint="one file holds the plans of one model",
        )
    stored = {name: {"vector": entry.vector, "layer": entry.layer} for name, entry in known.items()}
    write_pt(Path(path), {"vectors": stored, "experiments": experiments})


def _vector(name: str, entry: Any, path: Path) -> CappingVector:
    if not isinstance(entry, Mapping) or "vector" not in entry or "layer" not in entry:
        raise InteropError(
            f"{path}: the vector {name!r} lacks its vector or its layer", hint="give each both"
        )
    layer = _number(entry["layer"])
    if layer is None or layer < 0 or layer != int(layer):
        raise InteropError(
            f"{path}: the vector {name!r} has the layer {entry['layer']!r}",
            hint="layers are 0-based block indices",
        )
    vector = vectors(entry["vector"], path, f"the vector {name!r}", ndim=1)
    if not bool(vector.any()):
        raise InteropError(f"{path}: the vector {name!r} is zero", hint="a direction has a length")
    return CappingVector(vector, int(layer))


def _ceilings(
    entry: Mapping[str, Any], stored: Mapping[str, CappingVector], path: Path
) -> tuple[Ceiling, ...]:
    ceilings: list[Ceiling] = []
    for item in entry.get("interventions", ()):
        if not isinstance(item, Mapping) or set(item) != {"vector", "cap"}:
            keys = ", ".join(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
            raise InteropError(
                f"{path}: an intervention of {entry['id']!r} has {keys or 'nothing'}",
                hint="a cap has a vector and a cap, and nothing else",
            )
        cap = _number(item["cap"])
        if cap is None or not np.isfinite(cap):
            raise InteropError(
                f"{path}: an intervention of {entry['id']!r} has the cap {item['cap']!r}",
                hint="give a finite number",
            )
        if item["vector"] not in stored:
            raise InteropError(
                f"{path}: {entry['id']!r} caps along {item['vector']!r}, which is not among the vectors",
                hint="add the vector, or correct the name",
            )
        ceilings.append(Ceiling(item["vector"], cap))
    return tuple(ceilings)


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1 and value.dtype is not torch.bool:
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_layers(name: str, plan: Plan) -> None:
    """Refuse an id whose layers are not the plan's: the second number of an id is end-exclusive."""
    if is_experiment_id(name):
        meant = parse_experiment_id(name).layers
        if plan.layers != tuple(meant):
            raise InteropError(
                f"the experiment {name!r} means layers {meant.start} to {meant.stop - 1}, its caps are at "
                f"{', '.join(map(str, plan.layers))}",
                hint="an id ends one past its last layer; rename it or take the layers that it names",
            )


def _check_order(name: str, plan: Plan) -> None:
    """Refuse caps of one layer that act differently one after the other than jointly."""
    for layer in plan.layers:
        directions = [op.direction.astype(np.float64) for op in plan.ops if op.layer == layer]
        for one, other in combinations(directions, 2):
            cosine = abs(float(one @ other))
            if _APART < cosine < _SAME:
                raise InteropError(
                    f"the experiment {name!r} caps layer {layer} along two directions with cosine "
                    f"{float(one @ other):+.3f}: a capping config means one after the other, "
                    "a plan both at once",
                    hint="cap one direction of a layer, or two at right angles",
                )


def _released(name: str, op: Op) -> tuple[np.ndarray, int, str, float]:
    """Return an operation's vector [d], its layer, the end of the vector's name, and its cap."""
    kind = f"{type(op).__name__} at layer {op.layer}"
    why = ""
    if not isinstance(op, Cap):
        why, hint = f"{kind} is no cap", "a capping config holds caps alone"
    elif op.tokens != "all":
        why, hint = f"{kind} acts on {op.tokens!r}", 'a capping config caps every token: tokens="all"'
    elif op.floor is not None and op.ceiling is not None:
        why = f"{kind} has a floor of {op.floor:g} and a ceiling of {op.ceiling:g}"
        hint = "make two Caps of it, each with one bound"
    elif op.floor is not None:
        return -op.direction, op.layer, "role_minus_default", 0.0 - op.floor
    else:
        assert op.ceiling is not None
        return op.direction, op.layer, "ceiling", op.ceiling
    raise InteropError(f"the plan {name!r} cannot be a capping config: {why}", hint=hint)


def _name_of(
    known: dict[str, CappingVector], vector: np.ndarray, layer: int, label: str, dtype: torch.dtype
) -> str:
    """Return the name of a vector in ``known``, adding it if it is new."""
    tensor = torch.from_numpy(vector.copy()).to(dtype)
    number = 1
    while True:
        name = f"layer_{layer}/{label}" + (f"_{number}" if number > 1 else "")
        if name not in known:
            known[name] = CappingVector(tensor, layer)
        if torch.equal(known[name].vector, tensor):
            return name
        number += 1
