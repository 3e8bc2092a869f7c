"""Rendering of the report as one HTML file with embedded data, style, code and plotly."""

from __future__ import annotations

from dataclasses import asdict

from personascope.report._document import json_payload, plotly_document
from personascope.report.map_page._data import ReportData


def render(data: ReportData) -> str:
    """Return the report as one HTML document that needs no network."""
    return plotly_document(
        asdict(data),
        title=f"Persona map of {data.model}",
        template="page.html",
        styles=["page.css", "tables.css"],
        scripts=["base.js", "space.js", "roles.js", "results.js", "page.js"],
    )


def payload(data: ReportData) -> str:
    """Return the data as JSON that is safe in a script element; non-finite numbers become null."""
    return json_payload(asdict(data))
