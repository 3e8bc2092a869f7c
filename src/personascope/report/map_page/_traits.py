"""Traits of a map for its report: one ranking over all sets, and what each set rests on."""

from __future__ import annotations

from typing import TypedDict

from personascope.report.map_page._data import Trait
from personascope.space import MapTraits, PersonaMap, TraitPlace


class TraitRows(TypedDict):
    """Fields of a report's data that are about traits."""

    traits: tuple[Trait, ...]
    traits_notes: tuple[str, ...]


def trait_rows(persona_map: PersonaMap) -> TraitRows:
    """Return the traits of a map at its middle layer, and notes on them; both empty for a map without any.

    Raises:
        StoreError: If a set of traits is damaged.
    """
    layer = persona_map.middle_layer
    sets = persona_map.traits
    places = sorted(
        (place for one in sets for place in one.places(layer)), key=lambda place: (-place.cosine, place.name)
    )
    notes = [note for one in sets for note in _notes(one, layer)]
    if stale := persona_map.stale_traits:
        notes.append(f"Left out: traits measured along the axis of an earlier map ({', '.join(stale)}).")
    return {"traits": tuple(map(_trait, places)), "traits_notes": tuple(notes)}


def _trait(place: TraitPlace) -> Trait:
    known = place.low == place.low
    return Trait(
        place.name,
        place.cosine,
        place.low if known else None,
        place.high if known else None,
        f"{place.kept} of {place.pairs} pairs; |cosine| {place.null:.2f} or less in 95% with poles permuted",
    )


def _notes(one: MapTraits, layer: int) -> list[str]:
    record = one.record
    told = f"{one.name}: a vector is the mean over pairs of the positive response minus the negative one."
    if one.min_difference is None:
        told += " No judge scored the responses: every pair was kept."
    else:
        told += (
            f" Kept are pairs that differ by {one.min_difference} points or more, in a trait with "
            f"{record.min_pairs} or more of them."
        )
    notes = [told]
    mixed = one.mixed_q95(layer)
    if mixed == mixed:
        notes.append(
            f"{one.name}: pairs of prompts from different traits have |cosine| {mixed:.2f} or less in 95%."
        )
    if record.unscored:
        notes.append(f"{one.name}: {record.unscored} responses have no score and are in no pair.")
    if one.excluded:
        notes.append(f"{one.name}: too few kept pairs for a vector: {', '.join(sorted(one.excluded))}.")
    return notes
