"""One HTML document with the page's own files, which opens with no network and no server."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

DATA = "%%SAVED%%"
"""What the page puts a saved conversation in place of, as JSON without ``<``."""

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+\.js)";$', re.MULTILINE)
_WHOLE_IMPORT = re.compile(r'^import \* as (\w+) from "\./(\w+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function\*?|class|const)) ([\w$]+)", re.MULTILINE)


def shared_page(files: Mapping[str, str]) -> str:
    """Return the document, with `DATA` where a saved conversation goes.

    The content policy allows the page's own code and style (by hash), and no loading. A saved conversation is
    in a data block, whose texts the code inserts as text.

    Args:
        files: Name -> text of the page's files; ``page.html``, ``page.css`` and its modules.
    """
    code, style = bundle(files, "main.js"), files["page.css"]
    policy = (
        f"default-src 'none'; script-src 'sha256-{_sha256(code)}'; style-src 'sha256-{_sha256(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    data = f'<script type="application/json" id="saved">{DATA}</script>'
    page = files["page.html"]
    parts = (
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n{head}'),
        ('<link rel="stylesheet" href="/page/page.css">', f"<style>{style}</style>"),
        (
            '<script type="module" src="/page/main.js"></script>',
            f'{data}\n<script type="module">{code}</script>',
        ),
    )
    for before, after in parts:
        assert page.count(before) == 1, before
        page = page.replace(before, after)
    return page


def bundle(files: Mapping[str, str], entry: str) -> str:
    """Return modules as one script, each in a function that returns what it exports.

    Modules import only names, or a whole module, of others in the same folder, and nothing in a circle.

    Args:
        files: Name -> text of the modules.
        entry: Name of the module that is run.
    """
    order: list[str] = []
    _visit(files, entry, order, ())
    parts = [f"const modules = {{}};\n{''.join(_wrapped(files[name], name) for name in order)}"]
    return "".join(parts)


def _visit(files: Mapping[str, str], name: str, order: list[str], above: tuple[str, ...]) -> None:
    """Append a module to the order, after all that it imports."""
    assert name not in above, f"{name} imports itself by way of {above}"
    wanted = [found[2] for kind in (_IMPORT, _WHOLE_IMPORT) for found in kind.finditer(files[name])]
    for other in wanted:
        if other not in order:
            _visit(files, other, order, (*above, name))
    order.append(name)


def _wrapped(text: str, name: str) -> str:
    exported = [found[2] for found in _EXPORT.finditer(text)]
    text = _IMPORT.sub(lambda found: f'const {{{_renamed(found[1])}}} = modules["{found[2]}"];', text)
    text = _WHOLE_IMPORT.sub(r'const \1 = modules["\2"];', text)
    text = _EXPORT.sub(r"\1 \2", text)
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE), f"{name} has a form that is not bundled"
    assert "</script" not in text.lower(), f"{name} would end its script"
    return f'modules["{name}"] = (() => {{\n{text}\nreturn {{{", ".join(exported)}}};\n}})();\n'


def _renamed(names: str) -> str:
    """Write the names of an import as those of a pattern."""
    return re.sub(r"(\w+) as (\w+)", r"\1: \2", " ".join(names.split()))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
