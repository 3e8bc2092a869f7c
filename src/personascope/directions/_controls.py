"""Control directions, which an effect along the axis has to beat, and plans along them.

An isotropic direction moves an activation where responses hardly differ, so it is easily beaten. The axis
with its coordinates shuffled has the axis's few large coordinates, in other places. A direction inside the
span of the role vectors and orthogonal to the axis moves along what distinguishes the roles, save the axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from personascope.engines import request_seed
from personascope.errors import UsageError
from personascope.interventions import Cap, Plan, Steer
from personascope.space import PersonaMap

ControlKind = Literal["isotropic", "shuffled", "role_span"]

CONTROLS: tuple[ControlKind, ...] = ("isotropic", "shuffled", "role_span")
"""Kinds of control directions, all of which an effect has to beat."""

N_CONTROLS = 2
"""Default number of controls of each kind."""

LEAST_ROLES = 4
"""Minimum number of role vectors for role-span controls; 3 leave but one direction beside the axis."""

_NAMES: dict[ControlKind, str] = {"isotropic": "random", "shuffled": "shuffled", "role_span": "role-span"}
"""Words in the names of conditions; isotropic controls keep the word from when there were no others."""

_NO_SPAN = "give --controls isotropic,shuffled to leave them out"


@dataclass(frozen=True, slots=True)
class Control:
    """One control direction, determined by kind, index and seed.

    Attributes:
        kind: "isotropic" is uniform on the sphere, and the same at every layer. "shuffled" is the plan's own
            direction with its coordinates permuted, by the same permutation at every layer. "role_span" is
            orthogonal to the plan's own direction inside the span of the centred role vectors. It is a sum of
            these vectors with standard normal weights, so it has the role vectors' covariance, and the
            weights are the same at every layer.
        index: Index among the controls of its kind.
        seed: Random seed.
    """

    kind: ControlKind
    index: int
    seed: int = 0

    @property
    def name(self) -> str:
        """Name in those of conditions and plans, such as "role-span 0"; "random 0" is isotropic."""
        return f"{_NAMES[self.kind]} {self.index}"

    def direction(
        self, own: Float[np.ndarray, "d"], layer: int, persona_map: PersonaMap | None = None
    ) -> Float[np.ndarray, "d"]:
        """Return the unit direction that stands for a plan's own one at a layer.

        Args:
            own: Unit direction of the plan, such as the axis.
            layer: Layer of the plan's operation.
            persona_map: Map with the role vectors, for "role_span".

        Raises:
            UsageError: If the role vectors are missing or too few.
        """
        if self.kind == "isotropic":
            return random_unit(len(own), self.index, seed=self.seed)
        rng = np.random.default_rng(request_seed(self.seed, f"{self.kind} direction {self.index}"))
        if self.kind == "shuffled":
            return np.asarray(own, np.float64)[rng.permutation(len(own))]
        if persona_map is None:
            raise UsageError(f"the control {self.name} has no map", hint="give the map with the role vectors")
        require_roles(persona_map)
        weights = rng.standard_normal(len(persona_map.roles))
        return _in_role_span(persona_map, layer, np.asarray(own, np.float64), weights)


def controls_of(kinds: Sequence[ControlKind], count: int, *, seed: int = 0) -> tuple[Control, ...]:
    """Return ``count`` controls of each kind, kind by kind."""
    return tuple(Control(kind, index, seed) for kind in kinds for index in range(count))


def kind_label(kind: str) -> str:
    """Return a kind as people write it, such as "role-span"."""
    return kind.replace("_", "-")


def read_kinds(given: Sequence[str]) -> tuple[ControlKind, ...]:
    """Parse kinds of controls, such as "role-span"; return them in the order of `CONTROLS`.

    The order is fixed because conditions, and so the identity of a run, follow it.

    Raises:
        UsageError: If a kind is unknown or given twice.
    """
    known = {kind_label(kind): kind for kind in CONTROLS}
    for name in given:
        if kind_label(name) not in known:
            raise UsageError(f"there is no control {name!r}", hint=f"give some of {', '.join(known)}")
        if [kind_label(other) for other in given].count(kind_label(name)) > 1:
            raise UsageError(f"the control {name!r} is given twice", hint="give each kind once")
    found = {known[kind_label(name)] for name in given}
    return tuple(kind for kind in CONTROLS if kind in found)


def require_roles(persona_map: PersonaMap) -> None:
    """Check that a map has enough role vectors for role-span controls.

    Raises:
        UsageError: If it has fewer than `LEAST_ROLES`, or none because it is an axis alone.
    """
    count = len(persona_map.roles)
    if count >= LEAST_ROLES:
        return
    if not count:
        raise UsageError(
            f"{persona_map.folder} holds no role vectors, which role-span controls are made of", hint=_NO_SPAN
        )
    raise UsageError(
        f"the map in {persona_map.folder} has {count} role vectors, too few for role-span controls",
        hint=f"they need {LEAST_ROLES}: map with more roles, or {_NO_SPAN}",
    )


def random_unit(d_model: int, random_index: int, *, seed: int = 0) -> Float[np.ndarray, "d"]:
    """Return a random unit direction, uniform on the sphere, determined by index and seed."""
    vector = np.random.default_rng(request_seed(seed, f"random direction {random_index}")).standard_normal(
        d_model
    )
    return vector / np.linalg.norm(vector)


def _in_role_span(
    persona_map: PersonaMap, layer: int, own: Float[np.ndarray, "d"], weights: Float[np.ndarray, "R"]
) -> Float[np.ndarray, "d"]:
    vectors = persona_map.role_vectors(layer).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    _, sizes, basis = np.linalg.svd(centred, full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes[0]]
    if len(basis) < LEAST_ROLES - 1:
        raise UsageError(
            f"the {len(vectors)} role vectors of {persona_map.folder} span {len(basis)} dimensions at layer "
            f"{layer}, too few for role-span controls",
            hint=_NO_SPAN,
        )
    # The axis lies partly outside the span. Removing its projection on the span, instead of the axis itself,
    # leaves a direction that is orthogonal to the axis and still inside.
    drawn, inside = basis @ (centred.T @ weights), basis @ own
    if (size := float(inside @ inside)) > 1e-12:
        drawn -= (drawn @ inside) / size * inside
    found = basis.T @ drawn
    return found / np.linalg.norm(found)


def on_control(
    plan: Plan,
    control: Control,
    *,
    persona_map: PersonaMap | None = None,
    floors: dict[int, float] | None = None,
) -> Plan:
    """Return a copy of a plan along a control's directions instead of its own, of equal strength.

    Args:
        plan: Plan of steering, or of caps with a floor.
        control: Control.
        persona_map: Map with the role vectors, for role-span controls.
        floors: Layer -> floor on the control's direction, for caps; `calibration.control_plans` sets floors
            at which the cap fires equally often.

    Raises:
        UsageError: If a cap has no floor or none in ``floors``, the plan has other operations, or role
            vectors are missing.
    """
    ops: list[Steer | Cap] = []
    for op in plan.ops:
        direction = control.direction(op.direction, op.layer, persona_map)
        if isinstance(op, Steer):
            ops.append(Steer(op.layer, direction, op.strength, op.norm, op.tokens))
        elif (
            isinstance(op, Cap) and op.floor is not None and op.ceiling is None and op.layer in (floors or {})
        ):
            ops.append(Cap(op.layer, direction, floor=(floors or {})[op.layer], tokens=op.tokens))
        else:
            raise UsageError(
                f"{type(op).__name__} at layer {op.layer} has no control here",
                hint="steering has one, and a cap with a floor, given its floor on the control's direction; "
                "--n-random 0 leaves controls out",
            )
    return Plan(tuple(ops), plan.model, f"{control.name} of {plan.name}")
