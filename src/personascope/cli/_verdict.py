"""Saying whether a map is one: at length where it is shown, on a line where it is used."""

from __future__ import annotations

from pathlib import Path

from personascope.cli._console import err, out
from personascope.cli._engine import open_map
from personascope.errors import SpaceError
from personascope.space import PersonaMap

GRADE_STYLE = {"found": "green", "weak": "yellow", "not found": "red", "unknown": "dim"}


def print_verdict(persona_map: PersonaMap) -> None:
    """Print the verdict on the middle layer, its reasons, and how the map was made."""
    verdict = persona_map.verdict()
    for question, finding in verdict.answers:
        style = GRADE_STYLE[finding.grade]
        out.print(f"{question:27}[{style}]{finding.grade.upper()}[/]")
        for reason in finding.reasons:
            out.print(f"  {reason}", markup=False)
    for warning in verdict.warnings:
        out.print(f"[yellow]warning:[/] {warning}", highlight=False)
    checks = persona_map.checks
    if checks is None:
        out.print(f"design: {persona_map.design}")
        return
    profile = checks.profile
    made_of = {"played": "responses that played", "rubric": "all responses with the score 3"}[checks.vectors]
    out.print(
        f"design: {checks.design}; {profile['name']}, seed {profile['seed']}: {profile['roles']} roles, "
        f"{profile['prompts'] or 'all'} prompts, {profile['questions']} questions, "
        f"{profile['max_new_tokens']} tokens; vectors of {made_of}"
        + (", length regressed out" if checks.length_adjusted else "")
    )
    if checks.threshold is not None:
        out.print(
            f"role information {checks.information:.2f} nats a token on average; "
            f"above {checks.threshold:.2f} (95% of the default's under neutral prompts) it played"
        )


def open_found_map(folder: Path, *, anyway: bool) -> PersonaMap:
    """Open a map for a command that acts along its axis, and say the verdict on stderr.

    Raises:
        StoreError: If there is no map in the folder.
        SpaceError: If the map's verdict is that there is no axis, and the user did not say to go on.
    """
    persona_map = open_map(folder)
    verdict = persona_map.verdict()
    if verdict.axis.grade == "not found" and not anyway:
        raise SpaceError(
            f"the map in {persona_map.folder} found no axis: {'; '.join(verdict.axis.reasons)}",
            hint="map with more (--profile standard), with another corpus, or add --anyway to go on",
        )
    err.print(f"verdict on the map: {verdict.headline}", markup=False)
    return persona_map
