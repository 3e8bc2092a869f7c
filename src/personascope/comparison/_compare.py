"""Comparison of maps, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from string import ascii_uppercase

import numpy as np

from personascope.comparison._geometry import SPACE_DRAWS, SharedSpaces, default_places, geometry
from personascope.comparison._loadings import match_components
from personascope.comparison._resample import Draws, agreement
from personascope.comparison._types import MapComparison, MapSummary, PairComparison, RoleAgreement
from personascope.comparison._views import MapView, all_equal, usable_components, view
from personascope.errors import SpaceError, UsageError
from personascope.space import PersonaMap

MIN_SHARED = 10
"""Minimum number of shared roles."""
COMPONENTS = 5
DRAWS = 2000
MAX_COMPONENTS = 10
"""Number of components that a map keeps."""
MIN_DRAWS, MAX_DRAWS = 100, 20_000
"""Fewer draws have no 95% interval to speak of; all are in memory at once."""
_ROLES_PER_COMPONENT = 3


def compare(
    maps: Sequence[PersonaMap | tuple[PersonaMap, int | None]],
    *,
    layer: int | None = None,
    components: int = COMPONENTS,
    draws: int = DRAWS,
    seed: int = 0,
) -> MapComparison:
    """Compare two maps or more, pair by pair, over the roles that both maps of a pair have a vector of.

    A figure of a pair does not depend on the other maps. Components and axes are those of the maps, so the
    intervals are over roles alone: they leave out the noise of the responses behind a role vector.

    Args:
        maps: Maps, each alone or with the layer at which it is compared.
        layer: Layer of the maps that have none of their own; by default each map's middle layer.
        components: Number of components k, at most 10. It is lowered, with a note, to the number that both
            maps have, and to a third of the shared roles less one.
        draws: Number of bootstrap draws and of permutations, 100 to 20,000; at most 400 where each needs a
            PCA.
        seed: Random seed.

    Returns:
        The comparison; a pair of other widths has no ``geometry`` and says why.

    Raises:
        UsageError: If there are fewer than 2 maps or more than 26, a pair shares fewer than 10 roles, a
            number is out of its range, or a layer is not in its map.
        SpaceError: If a vector is not finite, or the shared roles do not differ in a map.
        StoreError: If a map is damaged.
    """
    if not 2 <= len(maps) <= len(ascii_uppercase):
        raise UsageError(
            f"{len(maps)} map{'' if len(maps) == 1 else 's'} cannot be compared",
            hint=f"give 2 to {len(ascii_uppercase)}; one map at two layers is two: MAP:10 MAP:20",
        )
    ranges = (("components", components, 1, MAX_COMPONENTS), ("draws", draws, MIN_DRAWS, MAX_DRAWS))
    for name, value, least, most in ranges:
        if not least <= value <= most:
            raise UsageError(f"{name} is {value}", hint=f"give {least} to {most}")
    given = [one if isinstance(one, tuple) else (one, None) for one in maps]
    labels = ascii_uppercase[: len(given)]
    # A map without roles, such as an axis alone, has no view.
    for (a, (first, _)), (b, (second, _)) in combinations(zip(labels, given, strict=True), 2):
        _check_shared(f"{a} ({_name(first)})", first, f"{b} ({_name(second)})", second)
    views: list[MapView] = []
    for label, (persona_map, own) in zip(labels, given, strict=True):
        at = own if own is not None else layer if layer is not None else persona_map.middle_layer
        views.append(view(persona_map, at, label, _name(persona_map)))
    pairs = list(combinations(views, 2))
    for first, second in pairs:
        _check_varied(first, second)
    return MapComparison(
        maps=tuple(_summary(one) for one in views),
        pairs=tuple(_pair(first, second, components, draws, seed) for first, second in pairs),
        notes=tuple(note for one in views for note in _notes(one)),
        methods=_methods(draws, seed),
        draws=draws,
        seed=seed,
    )


def _name(persona_map: PersonaMap) -> str:
    folder = persona_map.folder.resolve()
    return folder.parent.name if folder.name == "map" and folder.parent.name else folder.name


def _shared(first: PersonaMap, second: PersonaMap) -> tuple[str, ...]:
    """Return the roles with a vector in both maps, sorted by name."""
    return tuple(sorted(set(first.roles) & set(second.roles)))


def _check_shared(a: str, first: PersonaMap, b: str, second: PersonaMap) -> None:
    shared = len(_shared(first, second))
    if shared < MIN_SHARED:
        raise UsageError(
            f"{a} and {b} share {shared} roles (of {len(first.roles)} and {len(second.roles)}); "
            f"a comparison needs {MIN_SHARED}",
            hint="map both models with the same corpus, profile and seed, so that they play the same roles",
        )


def _check_varied(first: MapView, second: MapView) -> None:
    """Check that the shared roles differ in both maps, before the first figure is computed."""
    roles = _shared(first.persona_map, second.persona_map)
    for one in (first, second):
        rows = one.rows(roles)
        constant = {
            "vectors": all_equal(one.vectors[rows]),
            "cosines with the axis": np.ptp(one.cosines[rows]) == 0,
            "projections on the axis": np.ptp(one.projections[rows]) == 0,
            "loadings on PC1": not usable_components(one.loadings[rows]),
        }
        for what, equal in constant.items():
            if equal:
                raise SpaceError(
                    f"the {what} of the {len(roles)} shared roles in {one.where} are all equal",
                    hint="the map holds no difference between roles there; take another layer or map",
                )


def _pair(first: MapView, second: MapView, components: int, draws: int, seed: int) -> PairComparison:
    roles = _shared(first.persona_map, second.persona_map)
    n = len(roles)
    rows = (first.rows(roles), second.rows(roles))
    usable = [usable_components(one.loadings[at]) for one, at in zip((first, second), rows, strict=True)]
    k = min(components, *usable, (n - 1) // _ROLES_PER_COMPONENT)
    drawn = Draws.make(n, draws, seed)
    spaces = SharedSpaces.make(first, second, rows, k, drawn)
    widths = (first.persona_map.d_model, second.persona_map.d_model)
    same = widths[0] == widths[1]
    notes = _pair_notes(first, second)
    if k < components:
        notes.append(
            f"{k} components instead of {components}: {n} shared roles differ on {usable[0]} and {usable[1]} "
            "of the components that the maps keep"
        )
    loads = (first.loadings[rows[0]], second.loadings[rows[1]])
    cosines = (first.cosines[rows[0]], second.cosines[rows[1]])
    return PairComparison(
        first=first.label,
        second=second.label,
        roles=roles,
        only_first=tuple(sorted(set(first.persona_map.roles) - set(roles))),
        only_second=tuple(sorted(set(second.persona_map.roles) - set(roles))),
        components=match_components(loads[0][:, :k], loads[1][:, :k], drawn),
        cosines=RoleAgreement(*agreement(*cosines, drawn)),
        positions=RoleAgreement(
            *agreement(first.projections[rows[0]], second.projections[rows[1]], drawn)
        ),
        default=default_places(first, second, rows, seed),
        dimensions=spaces.dimensions(),
        geometry=geometry(first, second, spaces, drawn, seed) if same else None,
        not_comparable="" if same else f"widths {widths[0]} and {widths[1]}",
        notes=tuple(notes),
        pc1=(_floats(loads[0][:, 0]), _floats(loads[1][:, 0])),
        axis=(_floats(cosines[0]), _floats(cosines[1])),
    )  # fmt: skip


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())


def _summary(one: MapView) -> MapSummary:
    persona_map = one.persona_map
    finding = persona_map.verdict(one.layer).axis
    return MapSummary(
        label=one.label,
        name=one.name,
        model=persona_map.model.id,
        tokens=persona_map.model.tokens,
        layer=one.layer,
        n_layers=persona_map.n_layers,
        d_model=persona_map.d_model,
        roles=len(persona_map.roles),
        digest=persona_map.digest,
        corpus_digest=persona_map.corpus_digest,
        axis=finding.grade,
        reasons=finding.reasons,
        role_reliability=float(persona_map.stats.role_reliability[one.layer]),
    )


def _notes(one: MapView) -> list[str]:
    notes: list[str] = []
    finding = one.persona_map.verdict(one.layer).axis
    if finding.grade == "not found":
        notes.append(
            f"no axis was found in {one.where}: {'; '.join(finding.reasons)}. "
            "Its figures on the axis may be noise"
        )
    if one.persona_map.lacking:
        notes.append(
            f"{one.where} is an imported release: its components are those of its role vectors, and it has "
            "no verdict"
        )
    return notes


def _pair_notes(first: MapView, second: MapView) -> list[str]:
    a, b = first.persona_map, second.persona_map
    names = f"{first.label} and {second.label}"
    if a.digest == b.digest and first.layer == second.layer:
        return [f"{names} are the same map at the same layer: every figure compares it with itself"]
    if a.digest == b.digest:
        return [
            f"{names} are two layers of one map, of the same responses: what is chance in these responses "
            "agrees too, so the correlations are higher than between two runs"
        ]
    notes: list[str] = []
    if a.corpus_digest != b.corpus_digest:
        notes.append(
            f"{names} were made with different corpora, or one does not say: roles match by name alone"
        )
    if a.model.tokens != b.model.tokens:
        notes.append(f"{names} are of different tokens: {a.model.tokens} and {b.model.tokens}")
    if a.d_model == b.d_model and (a.model.id, a.model.revision) != (b.model.id, b.model.revision):
        notes.append(
            f"{names} are of different models of one width: cosines between them mean something only if one "
            "was trained from the other"
        )
    return notes


def _methods(draws: int, seed: int) -> tuple[str, ...]:
    return (
        f"Intervals are 95%: {draws} bootstrap draws of the shared roles, both maps together (at most "
        f"{SPACE_DRAWS} for dimensionality and overlap). Components and axes are held as the maps have them; "
        "the responses behind a role vector and the default are not resampled.",
        f"Null: {draws} permutations of the role names of the second map; the 95% quantile of the absolute "
        "figure, and p = (1 + draws at least as great) / (1 + draws). Assignment and rotation are found anew "
        "in every permutation.",
        "A rotation or an assignment is fitted to the roles, so its figures are above 0 by chance: read them "
        "against the null. Their intervals hold 0 where p is above 0.05, and those of a rotation are moved "
        "by what the fit adds.",
        "The cosine of the axes has another null: every shared role in the default's place in the second "
        "map. That of the overlap is subspaces in random directions.",
        "Roles below the default: Wilson's interval of a share. Dimensionality: the spread of the draws on a "
        "log scale. Neither depends on role names, so neither has a null.",
        f"Seed {seed}.",
    )
