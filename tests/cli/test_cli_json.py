"""Results as JSON, and what to run next: of every command that prints a table."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_case import save_model, write_corpus

from helpers.cli import Ran, personascope
from personascope.cli._app import COMMANDS, load_command
from personascope.cli._json import as_table
from personascope.space import PersonaMap


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json run")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    done = personascope(
        "map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none",
        "--json", "--questions", "4", "--default-samples", "4", "--dtype", "float32", "--out", folder / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["roles"]
    assert next_of(done)[:2] == [["show", str(folder / "run")], ["report", str(folder / "run")]]
    return folder / "run"


def next_of(done: Ran) -> list[list[str]]:
    lines = done.err[done.err.rindex("next:") :].splitlines()
    return [shlex.split(re.sub(r"^(next:)?\s*personascope ", "", line)) for line in lines if line.strip()]


def leaves(command: Any) -> list[Any]:
    below = getattr(command, "commands", {})
    return [leaf for one in below.values() for leaf in leaves(one)] if below else [command]


def test_every_command_that_prints_a_table_has_it() -> None:
    for name in COMMANDS:
        for command in leaves(load_command(name)):
            has = any("--json" in parameter.opts for parameter in command.params)
            assert has == (name not in ("serve", "export", "report", "chat")), (name, command.name)


def test_a_map_comes_at_full_precision_with_every_role(run: Path) -> None:
    done = personascope("show", run, "--ends", "1", "--json")
    found = json.loads(done.out)
    persona_map = PersonaMap.open(run)
    middle = persona_map.middle_layer
    assert len(found["roles"]) == len(persona_map.roles) + len(persona_map.excluded)
    best = found["roles"][0]
    index = persona_map.roles.index(best["role"])
    raw = float(persona_map.stats.projections[middle, index])
    assert best["projection"] == raw
    assert best["position"] == float(persona_map.to_units(raw, middle))
    assert [row["layer"] for row in found["layers"]] == list(range(persona_map.n_layers))
    assert found["exit_code"] == 0 and found["command"].endswith("--json")
    shown = next(table for table in found["tables"] if table["title"].startswith("Roles"))
    assert shown["rows"][0][2] == pytest.approx(best["position"], abs=0.005)


def test_an_evaluation_comes_with_its_records(run: Path, tmp_path: Path) -> None:
    args = ("evaluate", "coherence", run, "--out", tmp_path, "--strengths", "0,1", "--n-random", "1")
    done = personascope(*args, "--limit", "2", "--dtype", "float32", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert {row["condition"] for row in found["results"]} >= {"plain", "axis +1"}
    assert next_of(done) == [["report", str(run)]]


def test_steps_that_are_named_can_be_run(run: Path) -> None:
    done = personascope(
        "plan", "cap", run, "--anyway", "--layers", "1:4", "--axis-percentile", "75", "--out", run / "a cap"
    )
    steer, evaluate = next_of(done)
    assert steer[0] == "steer" and evaluate[:2] == ["evaluate", "coherence"]
    again = personascope(*steer, "--anyway", "--max-new-tokens", "2", "--dtype", "float32", "--json")
    assert again.code == 0, again.err
    assert [row[0] for row in json.loads(again.out)["tables"][0]["rows"]]


@pytest.mark.parametrize(
    "command", [["corpus", "show"], ["corpus", "check"], ["corpus", "show", "--role", "poet"]]
)
def test_what_needs_no_model(command: list[str]) -> None:
    done = personascope(*command, "--json")
    found = json.loads(done.out)
    assert found["tables"] or found["lines"]
    assert "[bold]" not in done.out


def test_an_error_is_no_result(tmp_path: Path) -> None:
    done = personascope("show", tmp_path / "nowhere", "--json")
    assert done.code == 1 and not done.out and "does not exist" in done.err


def test_a_reader_that_goes_is_no_traceback() -> None:
    shown = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m personascope corpus show --json | head -1"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in shown.stderr and shown.stdout == "{\n"


def test_cells_are_numbers_where_they_are() -> None:
    from rich.table import Table

    table = Table("a", "b", title="[bold]t[/]")
    table.add_row("+0.50", "1,234")
    table.add_row("-", "12%")
    assert as_table(table) == {"title": "t", "columns": ["a", "b"], "rows": [[0.5, 1234], [None, "12%"]]}
