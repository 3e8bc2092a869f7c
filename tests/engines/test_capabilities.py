"""The table of capabilities: refusals, doctor and the documentation say what it says."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from personascope.chat import Message
from personascope.cli._app import run
from personascope.engines import CAPABILITIES, ENGINE_TITLES, Probe, Request
from personascope.engines._capabilities import support, unsupported
from personascope.engines._checks import refuse_watch
from personascope.engines._local import _OPTIONS, load_local
from personascope.engines._ray import RayEngine, _dispatcher
from personascope.engines._vllm import VLLMEngine
from personascope.errors import EngineError, UsageError

ROOT = Path(__file__).parents[2]


def matrix_tool() -> Any:
    spec = importlib.util.spec_from_file_location("engine_matrix", ROOT / "tools" / "engine_matrix.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusals() -> Iterator[tuple[str, str, str]]:
    """Yield file, engine and capability of every refusal in the source."""
    lists = {"_config.py": "vllm", "_routes.py": "server"}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "unsupported":
                values = [part.value for part in node.args[:2] if isinstance(part, ast.Constant)]
                if len(values) == 2:
                    yield path.name, str(values[0]), str(values[1])
            # Where several are asked for in one go, they stand in a dictionary.
            names = [getattr(target, "id", "") for target in getattr(node, "targets", ())]
            if path.name in lists and names == ["used"]:
                assert isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
                for key in node.value.keys:
                    yield path.name, lists[path.name], str(getattr(key, "value", ""))


def test_every_row_speaks_of_every_engine_and_every_no_says_what_to_do() -> None:
    keys = [row.key for row in CAPABILITIES]
    assert len(set(keys)) == len(keys) > 30
    for row in CAPABILITIES:
        assert list(row.support) == list(ENGINE_TITLES), row.key
        for engine, found in row.support.items():
            assert (found.level == "no") == bool(found.hint), (row.key, engine)
            assert found.level != "no" or found.note, (row.key, engine)
            assert found.level != "as inside" or engine == "ray"


def test_every_refusal_stands_in_the_table() -> None:
    found = list(refusals())
    assert len(found) >= 21
    for _, engine, key in found:
        assert support(engine, key).level == "no", (engine, key)  # pyright: ignore[reportArgumentType]


def test_a_refusal_says_who_what_why_and_what_instead() -> None:
    error = unsupported("server", "turn_plans", "the request asks for")
    assert error.message == (
        "the request asks for a plan that acts from a turn on, which personascope serve does not have: "
        "the turns of a rendered prompt are not told apart over HTTP"
    )
    assert "personascope's own engine" in error.hint
    with pytest.raises(KeyError):
        unsupported("transformers", "watch", "nobody asks for")


def test_what_the_table_denies_is_refused() -> None:
    watched = Request("r", (Message("user", "Hi"),), watch=lambda _token, _values: None)
    with pytest.raises(EngineError, match=r"request 'r' asks for a watch .*the vllm engine does not have"):
        refuse_watch(watched, "vllm")
    for engine in (VLLMEngine, RayEngine):
        with pytest.raises(EngineError, match="grows turn by turn"):
            object.__new__(engine).follow(probes=(Probe("p", 0, None),))  # pyright: ignore
    assert _dispatcher.refuse_watch is refuse_watch


@pytest.mark.parametrize("option", _OPTIONS)
@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_an_option_that_an_engine_has_not_is_wrong_usage(engine: Any, option: str) -> None:
    if support(engine, _OPTIONS[option]).level == "no":
        with pytest.raises(UsageError, match=f"{option}='x' asks for .* does not have"):
            load_local("no-such-model", engine=engine, **{option: "x"})  # pyright: ignore[reportArgumentType]


def test_an_unknown_option_of_loading_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="the transformers engine has no option 'sampler'"):
        load_local("no-such-model", sampler="vllm")


def test_the_page_holds_the_present_table() -> None:
    tool = matrix_tool()
    page = tool.PAGE.read_text(encoding="utf-8")
    assert tool.with_matrix(page) == page, "run python tools/engine_matrix.py"


def test_doctor_prints_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run(["doctor"])
    printed = capsys.readouterr().out
    told = [re.split(r" {2,}", line.strip()) for line in printed.splitlines()]
    for row in CAPABILITIES:
        assert [row.title, *(row.support[name].level for name in ENGINE_TITLES)] in told
