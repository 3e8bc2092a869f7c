"""The command line reads options, calls `api` and prints: what it may import, and what it then loads."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from personascope import cli

FOLDER = Path(cli.__file__).parent
ALLOWED = {
    "personascope": {"__version__", "api"},
    # Values that are opened and shown, by their own methods.
    "personascope.space": {"PersonaMap"},
    "personascope.interventions": {"Plan"},
    # `corpus check` and `corpus show` print what these return.
    "personascope.corpus": {"check_corpus", "check_traits", "holds", "load_corpus", "load_traits"},
    # How a text reaches a terminal, in a console or as it is.
    "personascope.runs": {"SafeConsole"},
    "personascope.text": {"escape_controls", "escape_controls_in_json"},
    # How JSON is written, by every command alike.
    "personascope.stats": {"json_values"},
    # How a row of `project` is written, as columns or as JSON.
    "personascope.dynamics": {"projection"},
}
"""Names that are imported at run time, beside those of `api`, `cli` and `errors`."""


def run_time_imports(path: Path) -> set[tuple[str, str]]:
    """Return module and name of what a file imports from the package, types left out."""
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    found: set[tuple[str, str]] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return {(module, name) for module, name in found if module.partition(".")[0] == "personascope"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_a_command_imports_from_the_rooms_only_what_it_calls_or_shows(path: Path) -> None:
    other = {
        f"{module}.{name}"
        for module, name in run_time_imports(path)
        if not module.startswith(("personascope.api", "personascope.cli", "personascope.errors"))
        and name not in ALLOWED.get(module, set())
    }
    assert not other, other


def test_the_check_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("def f():\n    from personascope.judge import parse_judge\n")
    assert run_time_imports(tmp_path / "x.py") == {("personascope.judge", "parse_judge")}
