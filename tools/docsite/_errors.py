"""Troubleshooting: every message that the program raises on purpose, with its hint, found in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.docsite._page import Page, cell, plain_words

BASE = "PersonascopeError"


@dataclass(frozen=True, slots=True)
class Raised:
    """An error as the source raises it.

    Attributes:
        kind: Name of its class.
        message: Message; a value that it is filled with stands as ⟨name⟩.
        hint: Remedy; "" if it has none.
        room: Room that raises it.
    """

    kind: str
    message: str
    hint: str
    room: str


def error_pages(source: Path) -> list[Page]:
    """Return a page for each class of errors, and the list of the classes as the first.

    Args:
        source: Folder of the package.
    """
    classes = error_classes(source)
    found = list(raised(source, set(classes)))
    pages: list[Page] = []
    rows: list[str] = []
    for kind, summary in classes.items():
        mine = sorted({one for one in found if one.kind == kind}, key=lambda one: (one.room, one.message))
        if not mine:
            continue
        lines = [f"# {kind}", "", summary, ""]
        lines.append("⟨…⟩ stands for a value of your run. The list is made from the source.\n")
        for room in dict.fromkeys(one.room for one in mine):
            lines += [f"## In {room}", ""]
            for one in mine:
                if one.room == room:
                    lines.append(f"- **{plain_words(one.message)}**")
                    if one.hint:
                        lines.append(f"  <br>→ {plain_words(one.hint)}")
            lines.append("")
        pages.append(Page(f"troubleshooting/{kind}.md", "\n".join(lines)))
        rows.append(f"| [{kind}]({kind}.md) | {cell(summary)} | {len(mine)} |")
    table = "\n".join(["| class | what it says | messages |", "|---|---|---|", *rows])
    return [Page("troubleshooting/classes.md", f"# Messages by class\n\n{table}\n"), *pages]


def error_classes(source: Path) -> dict[str, str]:
    """Return the classes of errors of the package with what each says, those of `errors` first."""
    defined: dict[str, tuple[list[str], str]] = {}
    files = [source / "errors.py", *sorted(source.rglob("*.py"))]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name not in defined:
                bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                text = (ast.get_docstring(node) or "").split("\n\n")[0]
                defined[node.name] = (bases, " ".join(text.split()))
    wanted = {BASE}
    while True:
        more = {name for name, (bases, _) in defined.items() if wanted & set(bases)} - wanted
        if not more:
            break
        wanted |= more
    return {name: text for name, (_, text) in defined.items() if name in wanted}


def raised(source: Path, classes: set[str]) -> Iterator[Raised]:
    """Yield every error of these classes that the source makes.

    One whose whole message comes from elsewhere (it is handed on) is left out: it stands where it is written.
    """
    for path in sorted(source.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        room = path.relative_to(source).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                kind = ast.unparse(node.func).rpartition(".")[2]
                if kind in classes:
                    message = _text(node.args[0], constants)
                    hint = next((one.value for one in node.keywords if one.arg == "hint"), None)
                    if re.sub(r"⟨[^⟩]*⟩|[\W_]", "", message):
                        yield Raised(kind, message, "" if hint is None else _text(hint, constants), room)


def _text(node: ast.expr, constants: dict[str, ast.expr]) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return " ".join(text.split("\n")) if "\n" in text else text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.FormattedValue(value=value):
            return _placeholder(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.IfExp(body=body, orelse=orelse):
            return " / ".join(
                dict.fromkeys(part for part in (_text(body, constants), _text(orelse, constants)) if part)
            )
        case ast.Name(id=name) if name in constants:
            return _text(constants[name], {})
        case ast.Subscript(value=value):
            return _text(value, constants)
        case _:
            return _placeholder(node)


def _placeholder(node: ast.expr) -> str:
    """Return a name for a value: the last word of the expression that gives it."""
    words = [
        one
        for one in re.findall(r"[A-Za-z_]\w+", ast.unparse(node))
        if one not in ("self", "str", "repr", "len")
    ]
    simple = isinstance(node, ast.Name | ast.Attribute)
    return f"⟨{words[-1].strip('_').replace('_', ' ')}⟩" if simple and words else "⟨…⟩"
