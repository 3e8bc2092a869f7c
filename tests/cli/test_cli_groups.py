"""A command that takes a group of options has each of them, and is called with the group's values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from personascope.cli._groups import EngineOptions, JudgeOptions, grouped

RUN = typer.Argument(...)
LAST = typer.Option(1)
FLOAT32 = EngineOptions(dtype=typer.Option("float32", help="Another default."))
JUDGE = JudgeOptions()
seen: dict[str, Any] = {}


@grouped
def command(
    run: Path = RUN,
    engine: EngineOptions = FLOAT32,
    judge: JudgeOptions = JUDGE,
    last: int = LAST,
) -> None:
    """Do nothing but keep what came."""
    seen.update(run=run, engine=engine, judge=judge, last=last)


def invoke(*args: str) -> Any:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    seen.clear()
    return CliRunner().invoke(app, args)


def test_the_options_of_a_group_stand_in_its_place() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(command)
    names = [parameter.name for parameter in typer.main.get_command(app).params]
    assert names[:4] == ["run", "model", "engine", "dtype"]
    assert names[7:9] == ["judge", "fallback_judge"] and names[-1] == "last"


def test_a_command_is_called_with_the_values_of_its_groups() -> None:
    assert invoke("here", "--engine", "vllm", "--judge", "none", "--max-cost", "2").exit_code == 0
    assert seen["run"] == Path("here") and seen["last"] == 1
    assert (seen["engine"].engine, seen["engine"].dtype) == ("vllm", "float32")
    assert (seen["judge"].judge, seen["judge"].max_cost) == ("none", 2.0)


def test_a_value_outside_of_an_options_range_is_refused() -> None:
    assert invoke("here", "--max-batch", "0").exit_code == 2
    assert invoke("here", "--dtype", "int4").exit_code == 2
    assert not seen


def test_a_judge_is_named_where_none_was_given() -> None:
    assert JudgeOptions("rules", None, [], [], None, None, None).choose().spec == "rules"  # type: ignore[arg-type]
    assert JudgeOptions(None, None, [], [], None, None, None).choose(lambda: "none").spec == "none"  # type: ignore[arg-type]
