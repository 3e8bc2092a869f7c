"""Print figures on the structure of the source, and fail on a circle of files.

    python tools/structure.py [SRC]

A circle is a set of files that import each other, in functions too, but not for types alone. A duplicate
block is six lines of code or more that occur twice but for white space. The names that a room (a subpackage)
exports are those of its ``__init__.pyi`` (or of ``__init__.py``). Public things are modules, and functions,
classes and methods whose names and whose holders' names do not begin with an underscore.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

BLOCK = 6


def modules(source: Path) -> dict[str, Path]:
    """Return the path of every module of the package, by its dotted name."""
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(source.rglob("*.py"))
    }


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import anywhere in a file, except for types alone."""
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.module, alias.name
        nodes += ast.iter_child_nodes(node)


def exported(package: Path) -> dict[str, str]:
    """Return the names that a room exports, with the file that each comes from."""
    stub = package / "__init__.pyi"
    file = stub if stub.exists() else package / "__init__.py"
    names: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and (node.level or "._" in node.module):
            for alias in node.names:
                names[alias.asname or alias.name] = (
                    node.module.rpartition(".")[2] if not node.level else node.module
                )
    return names


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one file (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(part) > 1:
                found.append(sorted(part))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def duplicates(files: dict[str, Path]) -> int:
    """Return the number of blocks that occur twice, counting each run of lines once."""
    seen: dict[tuple[str, ...], tuple[str, int]] = {}
    count = 0
    for name, path in files.items():
        lines = [(n, line.strip()) for n, line in enumerate(path.read_text(encoding="utf-8").splitlines())]
        lines = [(n, line) for n, line in lines if line and not line.startswith(("#", "from ", "import "))]
        last = -BLOCK
        for place in range(len(lines) - BLOCK + 1):
            block = tuple(line for _, line in lines[place : place + BLOCK])
            if sum(len(line) for line in block) < 120:
                continue
            before = seen.setdefault(block, (name, place))
            if before != (name, place) and place - last >= BLOCK:
                count, last = count + 1, place
    return count


def documented(trees: dict[str, ast.Module]) -> tuple[int, int]:
    """Return the number of public modules, classes, functions and methods with a docstring, and of all."""
    have = total = 0
    holders: list[ast.Module | ast.ClassDef] = list(trees.values())
    while holders:
        holder = holders.pop()
        if isinstance(holder, ast.Module):
            total += 1
            have += ast.get_docstring(holder) is not None
        for node in holder.body:
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not any("overload" in ast.unparse(each) for each in node.decorator_list)
            ):
                total += 1
                have += ast.get_docstring(node) is not None
                if isinstance(node, ast.ClassDef):
                    holders.append(node)
    return have, total


def main(source: Path) -> int:
    """Print the figures, and return 1 if there is a circle."""
    files = modules(source)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}
    rooms = {name: exported(path.parent) for name, path in files.items() if path.name == "__init__.py"}
    graph: dict[str, set[str]] = defaultdict(set)
    used: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, tree in trees.items():
        graph[name] |= set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in rooms:
                for alias in node.names:
                    used[node.module, alias.name].add(name)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                for room in rooms:
                    if room.rpartition(".")[2] == node.value.id and node.attr in rooms[room]:
                        used[room, node.attr].add(name)
        for module, what in imports(tree):
            # A room's name is imported from its file on first use.
            target = f"{module}.{rooms[module][what]}" if what in rooms.get(module, {}) else module
            target = f"{module}.{what}" if f"{module}.{what}" in files else target
            if target in files and target != name and not name.endswith(".__init__"):
                graph[name].add(target)
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    names = [(room, name) for room, inside in rooms.items() for name in inside]
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("tests", "benchmarks", "examples", "docs", "README.md")
        for path in ([Path(folder)] if Path(folder).is_file() else Path(folder).rglob("*"))
        if path.suffix in (".py", ".md")
    )
    words = set(re.findall(r"\w+", text))
    idle = [f"{room}.{name}" for room, name in names if not used[room, name] and name not in words]
    parts = circles(graph)
    have, total = documented(trees)
    print(f"files                                  {len(files)}, {sum(sizes.values()):,} lines")
    print(f"largest file                           {largest}, {sizes[largest]} lines")
    print(f"files over 400 lines                   {sum(size > 400 for size in sizes.values())}")
    print(f"names that rooms hand on               {len(names)}")
    print(f"  used in no other file or page        {len(idle)}")
    print(f"circles of files                       {len(parts)}")
    print(f"duplicate blocks of {BLOCK} lines or more    {duplicates(files)}")
    print(f"public things with a docstring         {have} of {total} ({have / total:.1%})")
    for part in parts:
        print("circle:", ", ".join(part), file=sys.stderr)
    return 1 if parts else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "src")))
