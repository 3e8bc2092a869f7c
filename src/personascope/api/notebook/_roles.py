"""The tables of a map: its roles by position, its layers, and its card for a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from personascope.api._map_values import role_rows
from personascope.space import PersonaMap
from personascope.text import html_card

_ENDS = 6


def card(persona_map: PersonaMap, folder: Path) -> str:
    """Return the card of a map: the verdict with its reasons, and the roles at both ends."""
    verdict = persona_map.verdict()
    facts: dict[str, Any] = {
        question: f"{finding.grade}: {'; '.join(finding.reasons)}" for question, finding in verdict.answers
    }
    facts["layer"] = f"{persona_map.middle_layer} of {persona_map.n_layers}"
    facts["design"] = persona_map.design
    facts["folder"] = folder
    rows, _ = role_rows(persona_map)
    placed = [row for row in rows if not np.isnan(row["projection"])]
    ends = placed if len(placed) <= 2 * _ENDS else [*placed[:_ENDS], *placed[-_ENDS:]]
    left = len(placed) - len(ends)
    notes = [f"{left} roles between them, and all of them in .roles"] if left else []
    return html_card(
        f"Persona map of {persona_map.model.id or 'a release'}",
        facts,
        rows=[
            {name: f"{value:+.2f}" if isinstance(value, float) else value for name, value in row.items()}
            for row in ({key: row[key] for key in ("role", "position", "low", "high", "n")} for row in ends)
        ],
        notes=[*notes, *verdict.warnings, *filter(None, [persona_map.lacking])],
    )
