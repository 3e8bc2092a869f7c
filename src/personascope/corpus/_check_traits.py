"""Check what the schema of traits cannot: counts, duplicates, names, lengths, placeholders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from personascope.corpus._check import (
    DESCRIPTION_CHARS,
    PLACEHOLDER,
    PROMPT_WORDS,
    SLUG,
    Finding,
    alike,
    length,
)
from personascope.corpus._load_traits import load_traits
from personascope.corpus._traits import PAIRS_PER_TRAIT, POLES, TraitEntry, TraitSet
from personascope.errors import CorpusError, UsageError


def check_traits(traits_or_path: TraitSet | str | Path | None = None, *, near: float = 0.9) -> list[Finding]:
    """Check traits for errors and for what a person should look at.

    Args:
        traits_or_path: Traits, or what `load_traits` takes (None for the built-in ones). For traits that do
            not load, the loader's message is the only finding.
        near: Similarity from which two prompts count as near-duplicates, as in `check_corpus`.

    Returns:
        Findings, errors first; empty for traits in order.

    Raises:
        UsageError: If ``near`` is out of range.
    """
    if not 0 < near <= 1:
        raise UsageError(f"near is {near}", hint="give a similarity above 0 and at most 1, such as 0.9")
    if isinstance(traits_or_path, TraitSet):
        traits = traits_or_path
    else:
        try:
            traits = load_traits(traits_or_path)
        except CorpusError as error:
            return [Finding("error", str(traits_or_path or "builtin"), str(error))]
    found = [finding for trait in traits.traits for finding in _trait(trait)]
    described = any(trait.description.strip() for trait in traits.traits)
    found += [
        Finding("warning", trait.name, "has no description, and other traits do")
        for trait in traits.traits
        if described and not trait.description.strip()
    ]
    prompts = [
        (f"{trait.name}/{pole}/p{index}", pair.at(pole))
        for trait in traits.traits
        for index, pair in enumerate(trait.pairs)
        for pole in POLES
    ]
    found += alike(prompts, near)
    return sorted(found, key=lambda finding: finding.level != "error")


def _trait(trait: TraitEntry) -> Iterator[Finding]:
    if not SLUG.fullmatch(trait.name):
        yield Finding("error", trait.name, "the name is not in slug form (small letters, digits, single '_')")
    if len(trait.pairs) != PAIRS_PER_TRAIT:
        yield Finding("error", trait.name, f"has {len(trait.pairs)} pairs, not {PAIRS_PER_TRAIT}")
    if "\n" in trait.description.strip():
        yield Finding("error", trait.name, "the description is more than one line")
    if len(trait.description) > DESCRIPTION_CHARS:
        yield Finding("warning", trait.name, f"the description has {len(trait.description)} characters")
    for index, pair in enumerate(trait.pairs):
        for pole in POLES:
            where, text = f"{trait.name}/{pole}/p{index}", pair.at(pole)
            yield from length(where, text, PROMPT_WORDS)
            for mark in PLACEHOLDER.findall(text):
                yield Finding("error", where, f"the prompt holds the placeholder {mark}, which nothing fills")
    for index, text in enumerate(trait.questions):
        for mark in PLACEHOLDER.findall(text):
            where = f"{trait.name}/q{index}"
            yield Finding("error", where, f"the question holds the placeholder {mark}, which nothing fills")
