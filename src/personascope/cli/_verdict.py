"""Printed verdict on a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from personascope.cli._console import out

if TYPE_CHECKING:
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
    out.print(
        f"design: {checks.design}; {profile['name']}, seed {profile['seed']}: {profile['roles']} roles, "
        f"{profile['prompts'] or 'all'} prompts, {profile['questions']} questions, "
        f"{profile['max_new_tokens']} tokens; vectors of {checks.made_of}"
        + (", length regressed out" if checks.length_adjusted else "")
    )
    if checks.threshold is not None:
        out.print(
            f"role information {checks.information:.2f} nats a token on average; "
            f"above {checks.threshold:.2f} (95% of the default's under neutral prompts) it played"
        )
