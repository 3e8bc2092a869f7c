"""README and docs: every command line in them parses, and every Python block imports what exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from personascope.cli._app import COMMANDS, load_command

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the lines of a page that run the program, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        command = line.strip().removeprefix("$ ")
        if (fenced or line.startswith("    ")) and command.startswith("personascope "):
            found.append(re.split(r"\s+#|\s[|>]\s", command)[0].strip())
    # Commands in the middle of a sentence, where they are whole: with an argument or an option.
    for inline in re.findall(r"`(personascope [^`]+)`", text):
        if "..." not in inline and inline not in found and "\n" not in inline:
            found.append(inline)
    return found


def parse(line: str) -> None:
    """Parse a command line as the program would, and run nothing."""
    name, *rest = shlex.split(line)[1:]
    if name.startswith("-"):
        return
    assert name in COMMANDS, f"no command {name!r}"
    command: Any = load_command(name)
    while hasattr(command, "commands") and rest:
        sub, *rest = rest
        assert sub in command.commands, f"{name} has no command {sub!r}"
        command, name = command.commands[sub], f"{name} {sub}"
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    if not rest or ("--" in rest and command.name != "serve"):
        return
    options = [part.split("=")[0] for part in rest if part.startswith("--") and part != "--"]
    if command.name == "serve" and "--" in rest:
        options = [part for part in rest[: rest.index("--")] if part.startswith("--")]
    unknown = [option for option in options if option not in known | {"--help"}]
    assert not unknown, f"{name} has no {unknown}"
    if "--help" not in rest and not any(
        re.fullmatch(r"[A-Z_]{2,}|\[.*|.*\].*|RUN|FILE", part) for part in rest
    ):
        command.make_context(name, list(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_parses(page: Path) -> None:
    wrong: dict[str, str] = {}
    for line in commands(page):
        try:
            parse(line)
        except Exception as error:
            wrong[line] = f"{type(error).__name__}: {error}"
    assert not wrong, wrong


def test_the_pages_hold_command_lines() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 40


def blocks() -> list[Any]:
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT).as_posix()}-{number}")
        for page in PAGES
        for number, code in enumerate(
            re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)
        )
    ]


@pytest.mark.parametrize("code", blocks())
def test_every_python_block_imports_what_exists(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("personascope"):
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)*\w+\.(?:py|pyi|md|toml))`", text) + re.findall(r"\bdocs/\w+\.md", text)
    assert len(named) > 30
    rooms = ("src", "tests", "tools", "docs")
    files = [path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*.*")]
    files += [path.name for path in ROOT.iterdir()]
    missing = [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in files)]
    assert not missing, missing
