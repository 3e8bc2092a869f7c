"""Named directions to project conversations on: the axis, components, roles, and vectors from files."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from personascope import interop
from personascope.engines import Probe
from personascope.errors import UsageError
from personascope.space import PersonaMap

AXIS = "axis"
_COMPONENT = re.compile(r"pc(\d+)")
_AT = re.compile(r"(?P<what>.+)@(?P<layer>[^@/\\.=#]*)")
_ROLE = "role:"
_TRAIT = "trait:"
_KNOWN = (
    "axis, pc1, pc2, ..., role:NAME, trait:NAME, or [NAME=]FILE of a vector, each with @LAYER behind it if "
    "wanted"
)


@dataclass(frozen=True, slots=True, eq=False)
class NamedProbe:
    """A named unit direction at a layer.

    Attributes:
        name: "axis", "pc1", "role:poet", or the name of a file; with "@LAYER" if a layer was given.
        probe: The engine's probe, with a direction of length 1.
    """

    name: str
    probe: Probe

    @property
    def layer(self) -> int:
        """Layer of the direction."""
        return self.probe.layer

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the direction."""
        return hashlib.sha256(self.probe.direction.astype("<f4").tobytes()).hexdigest()


def in_units(name: str) -> bool:
    """Return whether projections on a probe have positions and percentiles, which only the axis has."""
    return name.partition("@")[0] == AXIS


def axis_probe(persona_map: PersonaMap, layer: int, name: str = AXIS) -> NamedProbe:
    """Return the probe along the map's axis at a layer.

    Raises:
        UsageError: If the map has no such layer.
    """
    return NamedProbe(name, Probe(name, layer, persona_map.unit_axis(layer)))


def parse_probes(
    persona_map: PersonaMap, specs: Sequence[str | NamedProbe], layer: int
) -> tuple[NamedProbe, ...]:
    """Parse direction names into probes.

    Every direction is normalised to length 1, so that a projection is the coordinate along it:

    - ``axis``: toward the Assistant (section 2).
    - ``pc1`` ...: a principal component of the map, with the map's sign.
    - ``role:NAME``: from the default Assistant's vector to the role's.
    - ``trait:NAME``: a trait vector of the map (``personascope traits``); ``trait:SET/NAME`` for one of
      several sets.
    - ``FILE`` or ``NAME=FILE``: a trait or control vector that `read_direction` accepts;
      ``FILE.safetensors#TENSOR`` for one of several tensors.

    The suffix ``@LAYER`` selects the layer, as in ``axis@20``.

    Args:
        persona_map: Map of the model.
        specs: Names of the directions; probes among them are taken as they are.
        layer: Layer for names without ``@LAYER``.

    Raises:
        UsageError: If a name is unknown, two probes have the same name, or a direction is zero.
        InteropError: If a file is unsafe, damaged or of another model's shape.
    """
    probes: list[NamedProbe] = []
    for spec in specs:
        probe = spec if isinstance(spec, NamedProbe) else _parsed(persona_map, spec, layer)
        if any(probe.name == other.name for other in probes):
            raise UsageError(
                f"two probes are called {probe.name!r}", hint="leave one out, or name a file by NAME=FILE"
            )
        probes.append(probe)
    return tuple(probes)


def _parsed(persona_map: PersonaMap, spec: str, layer: int) -> NamedProbe:
    at = _AT.fullmatch(spec)
    if at is None:
        return _probe(persona_map, spec, layer, "")
    chosen = _layer(spec, at["layer"], persona_map.n_layers)
    return _probe(persona_map, at["what"], chosen, f"@{chosen}")


def _layer(spec: str, text: str, n_layers: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= n_layers:
        raise UsageError(
            f"the probe {spec!r} names the layer {text!r}",
            hint=f"give 0 to {n_layers - 1}: layers are 0-based",
        )
    return int(text)


def _probe(persona_map: PersonaMap, what: str, layer: int, suffix: str) -> NamedProbe:
    component = _COMPONENT.fullmatch(what)
    if what == AXIS:
        return axis_probe(persona_map, layer, AXIS + suffix)
    if component is not None:
        components = persona_map.components(layer)
        number = int(component[1])
        if not 1 <= number <= len(components):
            raise UsageError(
                f"the map has no component {what}", hint=f"it has pc1 to pc{len(components)} at layer {layer}"
            )
        return _made(what + suffix, layer, components[number - 1])
    if what.startswith(_ROLE):
        name = what.removeprefix(_ROLE)
        if name not in persona_map.roles:
            raise UsageError(
                f"the map has no vector of a role {name!r}", hint=_close(name, persona_map.roles)
            )
        return _made(
            what + suffix, layer, persona_map.role_vector(name)[layer] - persona_map.default_vector[layer]
        )
    if what.startswith(_TRAIT):
        return _made(what + suffix, layer, _trait(persona_map, what.removeprefix(_TRAIT))[layer])
    return _of_file(persona_map, what, layer, suffix)


def _trait(persona_map: PersonaMap, name: str) -> Float[np.ndarray, "L d"]:
    """Return a trait vector of the map, given the trait's name, or SET/NAME.

    Raises:
        UsageError: If no set has such a vector, or several have.
    """
    wanted, slash, trait = name.rpartition("/")
    sets = [one for one in persona_map.traits if not slash or one.name == wanted]
    holders = [one for one in sets if trait in one.traits]
    if len(holders) == 1:
        return holders[0].vector(trait)
    if holders:
        raise UsageError(
            f"{len(holders)} sets of traits have a vector of {trait!r}",
            hint=f"say which: {', '.join(f'{_TRAIT}{one.name}/{trait}' for one in holders)}",
        )
    for one in sets:
        if trait in one.excluded:
            # Its own error says how many pairs were kept.
            one.vector(trait)
    known = [one_trait for one in sets for one_trait in one.traits]
    raise UsageError(
        f"the map has no vector of a trait {name!r}",
        hint=_close(trait, known) if known else "run personascope traits on it first",
    )


def _of_file(persona_map: PersonaMap, what: str, layer: int, suffix: str) -> NamedProbe:
    name, equals, rest = what.partition("=")
    # A path may contain a "=" too, but then a "/" usually comes before it.
    named = bool(equals) and "/" not in name
    path_text, _, key = (rest if named else what).partition("#")
    path = Path(path_text).expanduser()
    if not named:
        name = key or path.stem
    if not path.suffix and not path.exists():
        raise UsageError(f"there is no probe {what!r}", hint=_close(what, (AXIS, *_roles(persona_map))))
    taken = name == AXIS or _COMPONENT.fullmatch(name) or name.startswith((_ROLE, _TRAIT))
    if not name or taken or "@" in name:
        raise UsageError(
            f"the vector in {path} cannot be called {name!r}", hint="choose another name by NAME=FILE"
        )
    vector = interop.read_direction(
        path, layer, n_layers=persona_map.n_layers, d_model=persona_map.d_model, key=key or None
    )
    return _made(name + suffix, layer, vector)


def _made(name: str, layer: int, direction: Float[np.ndarray, "d"]) -> NamedProbe:
    wide = direction.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not length > 0:
        raise UsageError(f"the direction {name!r} is zero at layer {layer}", hint="choose another layer")
    return NamedProbe(name, Probe(name, layer, (wide / length).astype(np.float32)))


def _roles(persona_map: PersonaMap) -> tuple[str, ...]:
    return tuple(f"{_ROLE}{name}" for name in persona_map.roles)


def _close(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near += [one for one in known if one.removeprefix(_ROLE) == name and one not in near]
    return f"did you mean {' or '.join(near)}?" if near else f"a probe is {_KNOWN}"
