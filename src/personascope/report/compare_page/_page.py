"""Comparison of maps as one self-contained HTML page: matrix of pairs, scatter of roles, table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from personascope.comparison import MapComparison, PairComparison
from personascope.report._document import plotly_document
from personascope.store import write_bytes


def write_comparison(found: MapComparison, out: Path) -> Path:
    """Write a comparison as one HTML file (about 5 MB) that works without a network.

    Args:
        found: Comparison to show.
        out: HTML file to write; an existing file is replaced atomically.

    Returns:
        ``out``.

    Raises:
        StoreError: If the file cannot be written.
    """
    write_bytes(out, render_comparison(found).encode("utf-8"))
    return out


def render_comparison(found: MapComparison) -> str:
    """Return the page as one HTML document that needs no network."""
    values = {
        "maps": [asdict(one) for one in found.maps],
        "notes": found.notes,
        "methods": found.methods,
        "pairs": [_pair(one) for one in found.pairs],
    }
    names = ", ".join(one.name for one in found.maps)
    return plotly_document(
        values,
        title=f"Comparison of {names}",
        template="compare.html",
        styles=["page.css", "tables.css", "compare.css"],
        scripts=["compare.js"],
    )


def _pair(pair: PairComparison) -> dict[str, Any]:
    """Return what the page shows of a pair."""
    return {
        "first": pair.first,
        "second": pair.second,
        "roles": pair.roles,
        "only_first": pair.only_first,
        "only_second": pair.only_second,
        "notes": pair.notes,
        "not_comparable": pair.not_comparable,
        "angles": None if pair.geometry is None else pair.geometry.angles,
        "pc1": pair.pc1,
        "axis": pair.axis,
        "matrix": {
            "PC1 with PC1": asdict(pair.components.order[0]),
            "best rotation": asdict(pair.components.procrustes),
            "roles along the axes": asdict(pair.cosines.pearson),
        },
        "between": [asdict(row) for row in pair.between],
        "apart": [asdict(row) for row in pair.apart],
    }
