"""The page: one HTML file with its data, its style, its code and plotly's code in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from plotly.offline import get_plotlyjs

from personascope.report.map_page._data import ReportData


def render(data: ReportData) -> str:
    """Return the report as one HTML document that needs no network.

    Model output is only in the JSON payload, in which ``<`` is escaped, and the page's code sets it
    as text. A content policy lets nothing run but the page's own scripts (by their hash), and
    nothing be loaded at all.
    """
    scripts = [_plotly(), _asset("page.js")]
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": html.escape(f"Persona map of {data.model}".encode("utf-8", "replace").decode("utf-8")),
        "STYLE": _asset("page.css"),
        "PAYLOAD": payload(data),
        "PLOTLY": scripts[0],
        "SCRIPT": scripts[1],
    }
    # Split, not replaced one after the other: a part may hold another part's placeholder.
    pieces = _asset("page.html").split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def payload(data: ReportData) -> str:
    """Return the data as JSON that may stand in a script element; numbers that are not finite are null."""
    text = json.dumps(_finite(asdict(data)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    # A lone surrogate does not encode; as a JSON escape it may stay.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _asset(name: str) -> str:
    return resources.files("personascope.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    # An element's text ends at the first "</script", wherever the code has it; "<\/" is the same string.
    # Parsers turn \r\n into \n, which would change the hash.
    return get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
