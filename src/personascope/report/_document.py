"""Self-contained HTML documents: data, style, code and plotly in one file that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from plotly.offline import get_plotlyjs

from personascope.stats import json_values


def plotly_document(
    values: Mapping[str, Any], *, title: str, template: str, styles: Sequence[str], scripts: Sequence[str]
) -> str:
    """Return one HTML document that needs no network.

    Text from elsewhere is only in the JSON payload, where ``<`` is escaped, and the page's code inserts it as
    text. The content policy allows only the page's own scripts (by hash), and no loading.

    Args:
        values: Data of the page's code.
        title: Title of the document.
        template: Name of the asset with the placeholders ``%%POLICY%%`` and so on.
        styles: Names of the assets with its style.
        scripts: Names of the assets with its code, which share their names.
    """
    codes = [_plotly(), "".join(asset(name) for name in scripts)]
    hashes = " ".join(f"'sha256-{_sha256(code)}'" for code in codes)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "POLICY": policy,
        "TITLE": html.escape(title.encode("utf-8", "replace").decode("utf-8")),
        "STYLE": "".join(asset(name) for name in styles),
        "PAYLOAD": json_payload(values),
        "PLOTLY": codes[0],
        "SCRIPT": codes[1],
    }
    # Split instead of replacing one by one, because a part may contain another part's placeholder.
    pieces = asset(template).split("%%")
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def json_payload(values: Mapping[str, Any]) -> str:
    """Return data as JSON that is safe in a script element; non-finite numbers become null."""
    text = json.dumps(json_values(values), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    # A lone surrogate cannot be encoded, but it may stay as a JSON escape.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def asset(name: str) -> str:
    """Return the text of a file of this room."""
    return resources.files("personascope.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    # A script element ends at the first "</script", even inside a string; "<\/" is the same string to the
    # code.
    # HTML parsers turn \r\n into \n, which would change the hash.
    return get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
