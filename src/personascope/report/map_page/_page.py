"""Rendering of the report as one HTML file with embedded data, style, code and plotly."""

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

    Model output is only in the JSON payload, where ``<`` is escaped, and the page's code inserts it as text.
    The content policy allows only the page's own scripts (by hash), and no loading.
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
    # Split instead of replacing one by one, because a part may contain another part's placeholder.
    pieces = _asset("page.html").split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def payload(data: ReportData) -> str:
    """Return the data as JSON that is safe in a script element; non-finite numbers become null."""
    text = json.dumps(_finite(asdict(data)), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    # A lone surrogate cannot be encoded, but it may stay as a JSON escape.
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
    # A script element ends at the first "</script", even inside a string; "<\/" is the same string to the
    # code.
    # HTML parsers turn \r\n into \n, which would change the hash.
    return get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
