"""The Python reference: every exported name of every room, from signatures and docstrings in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tools.docsite._docstring import as_markdown
from tools.docsite._page import Page, cell

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
PLAIN_MODULES = ("errors", "hub", "identity")
WIDTH = 96


def reference_pages(source: Path) -> list[Page]:
    """Return a page for each room, the first of them for the names at the top.

    Args:
        source: Folder of the package.
    """
    rooms = [
        path.parent
        for path in sorted(source.rglob("__init__.pyi"))
        if not any(part.startswith("_") for part in path.parent.relative_to(source).parts)
    ]
    pages = [_room_page(source, room) for room in rooms]
    pages += [_module_page(source, source / f"{name}.py") for name in PLAIN_MODULES]
    top, *others = pages
    lines = [
        top.text,
        "## Rooms below",
        "",
        "A name below is imported from its room, such as `from personascope.space import PersonaMap`.",
        "",
        "| room | what it holds |",
        "|---|---|",
        *(f"| [`{page.title}`]({Path(page.path).name}) | {cell(page.summary)} |" for page in others),
    ]
    return [Page("reference/index.md", "\n".join(lines) + "\n"), *others]


def _room_page(source: Path, room: Path) -> Page:
    dotted = ".".join((source.name, *room.relative_to(source).parts))
    entries = [
        entry for name, (path, original) in exported(room).items() for entry in _entry(path, name, original)
    ]
    text = _page_text(dotted, ast.get_docstring(_tree(room / "__init__.py")) or "", entries)
    return Page(f"reference/{dotted.partition('.')[2] or 'index'}.md", text)


def _module_page(source: Path, path: Path) -> Page:
    names = [
        node.name
        for node in _tree(path).body
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_")
    ]
    entries = [entry for name in names for entry in _entry(path, name, name)]
    dotted = f"{source.name}.{path.stem}"
    return Page(
        f"reference/{path.stem}.md", _page_text(dotted, ast.get_docstring(_tree(path)) or "", entries)
    )


def _page_text(dotted: str, docstring: str, entries: list[str]) -> str:
    prose = re.sub(rf"^{re.escape(dotted)}: (\w)", lambda found: found[1].upper(), docstring)
    return "\n\n".join([f"# {dotted}", as_markdown(prose), *entries]) + "\n"


def exported(room: Path) -> dict[str, tuple[Path, str]]:
    """Return the names that a room exports: the file that defines each, and its name there."""
    found: dict[str, tuple[Path, str]] = {}
    for node in _tree(room / "__init__.pyi").body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = room
            for _ in range(node.level - 1):
                base = base.parent
            for alias in node.names:
                found[alias.asname or alias.name] = _definition_file(base, node.module or "", alias.name)
    return found


def _definition_file(base: Path, module: str, name: str) -> tuple[Path, str]:
    target = base.joinpath(*module.split("."))
    if target.is_dir():
        return (
            exported(target)[name] if (target / "__init__.pyi").exists() else (target / "__init__.py", name)
        )
    return target.with_suffix(".py"), name


@lru_cache(maxsize=512)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _entry(path: Path, name: str, original: str) -> Iterator[str]:
    body = _tree(path).body
    nodes = [
        node
        for node in body
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and node.name == original and not _overload(node)
    ]
    if nodes:
        node = nodes[-1]
        yield (
            _class_text(name, node) if isinstance(node, ast.ClassDef) else _function_text(f"## {name}", node)
        )
        return
    for index, node in enumerate(body):
        if original in _assigned(node):
            after = body[index + 1] if index + 1 < len(body) else None
            text = ast.unparse(node)
            code = text if len(text) < 300 else f"{name} = ..."
            yield f"## {name}\n\n```python\n{code}\n```\n\n{as_markdown(_string(after))}".rstrip()
            return
    # A name that the file itself imports: shown where it is defined.
    for node in body:
        if isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == original for a in node.names):
            yield f"## {name}\n\nThe same as `{node.module}.{original}`."
            return


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.AnnAssign):
        targets: list[ast.expr] = [node.target]
    elif isinstance(node, ast.Assign):
        targets = [
            one
            for target in node.targets
            for one in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
    else:
        return []
    return [one.id for one in targets if isinstance(one, ast.Name)]


def _string(node: ast.stmt | None) -> str:
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ):
        return node.value.value
    return ""


def _decorators(node: Function | ast.ClassDef) -> list[str]:
    return [ast.unparse(one) for one in node.decorator_list]


def _overload(node: Function | ast.ClassDef) -> bool:
    return any(one.rpartition(".")[2] == "overload" for one in _decorators(node))


def _class_text(name: str, node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"class {name}{f'({bases})' if bases else ''}"]
    marks = _decorators(node)
    if any("dataclass" in mark for mark in marks) or "NamedTuple" in bases or "TypedDict" in bases:
        lines[0] += ":"
        lines += [
            f"    {ast.unparse(one)}"
            for one in node.body
            if isinstance(one, ast.AnnAssign)
            and isinstance(one.target, ast.Name)
            and not one.target.id.startswith("_")
        ]
    parts = [
        f"## {name}",
        "```python\n" + "\n".join(lines) + "\n```",
        as_markdown(ast.get_docstring(node) or ""),
    ]
    parts += [
        _function_text(f"### {name}.{one.name}", one)
        for one in node.body
        if isinstance(one, FUNCTION) and not one.name.startswith("_") and not _overload(one)
    ]
    return "\n\n".join(part for part in parts if part)


def _function_text(heading: str, node: Function) -> str:
    if any(mark.endswith(("property", "cached_property")) for mark in _decorators(node)):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        code = f"{node.name}{returns}  # property"
    else:
        code = _signature(node)
    parts = [heading, f"```python\n{code}\n```", as_markdown(ast.get_docstring(node) or "")]
    return "\n\n".join(part for part in parts if part)


def _signature(node: Function) -> str:
    start = "async def " if isinstance(node, ast.AsyncFunctionDef) else ""
    marks = [
        f"@{mark}\n"
        for mark in _decorators(node)
        if mark in ("classmethod", "staticmethod", "contextmanager")
    ]
    returned = ast.unparse(node.returns) if node.returns else ""
    if "estimable" in _decorators(node):
        # The function prepares; what is called runs.
        returned = returned.removeprefix("Prepared[").removesuffix("]")
    returns = f" -> {returned}" if returned else ""
    arguments = _arguments(node.args)
    line = f"{start}{node.name}({', '.join(arguments)}){returns}"
    if len(line) > WIDTH:
        inner = "".join(f"    {one},\n" for one in arguments)
        line = f"{start}{node.name}(\n{inner}){returns}"
    return "".join(marks) + line


def _arguments(args: ast.arguments) -> list[str]:
    def one(arg: ast.arg, default: ast.expr | None, mark: str = "") -> str:
        kind = f": {ast.unparse(arg.annotation)}" if arg.annotation else ""
        value = "" if default is None else (" = " if kind else "=") + ast.unparse(default)
        return f"{mark}{arg.arg}{kind}{value}"

    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    shown = [one(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if plain and plain[0].arg in ("self", "cls"):
        del shown[0]
    if args.vararg:
        shown.append(one(args.vararg, None, "*"))
    elif args.kwonlyargs:
        shown.append("*")
    shown += [one(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        shown.append(one(args.kwarg, None, "**"))
    return shown
