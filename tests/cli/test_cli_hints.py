"""Options that errors, notes and helps name exist: in some command, or in another program named there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import personascope
from personascope.cli._app import COMMANDS, load_command

SOURCE = Path(personascope.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]")
FOREIGN = {
    *("--additional-config", "--chat-template", "--default-chat-template-kwargs", "--enforce-eager"),  # vLLM
    *("--scheduler-cls", "--served-model-name", "--shutdown-timeout", "--tensor-parallel-size"),
    *("--worker-cls", "--middleware", "--disable-uvicorn-access-log", "--head"),  # vLLM, Ray
    *("--control-vector", "--control-vector-scaled", "--control-vector-layer-range"),  # llama.cpp
    *("--include", "--apply", "--use", "--gen"),  # lm-eval, which writes on with an underscore
    *("--local-dir", "--no-deps"),  # the hub's client, pip
    "--toward",  # a variable of CSS
}
"""Options of other programs, which are named as theirs."""


def options(command: Any) -> Iterator[str]:
    for one in getattr(command, "commands", {}).values():
        yield from options(one)
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_every_option_that_is_named_exists() -> None:
    known = {"--help", "--version", "--verbose", "--install-completion", "--show-completion"}
    for name in COMMANDS:
        known.update(options(load_command(name)))
    missing = [
        f"{path.relative_to(SOURCE)}:{line}: {flag}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, text in texts(path)
        for flag in FLAG.findall(text)
        if flag not in known | FOREIGN
    ]
    assert not missing, "\n".join(missing)
