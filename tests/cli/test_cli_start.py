"""A start that nobody notices, and arguments that are checked before a model is loaded."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from cli_case import save_model, write_corpus

from helpers.cli import personascope, personascope_process
from personascope import engines
from personascope.api._comparison import STRENGTHS
from personascope.cli import _options
from personascope.cli._app import COMMANDS, load_command
from personascope.corpus.dialogues import DOMAINS
from personascope.dynamics.conversations._auditor_spec import AUDITORS
from personascope.dynamics.harm import PlanOn
from personascope.dynamics.monitor import ASSISTANT_LIKE
from personascope.engines._names import ENGINES
from personascope.interventions import Plan, Steer
from personascope.mapping import PROFILES, Vectors

LIGHT = [
    ["--version"],
    ["--help"],
    ["nonsense"],
    ["map", "--no-such-option"],
    ["map", "x", "--profile", "huge"],
    ["show", "nowhere"],
    ["project", "nowhere", "nowhere.json"],
    ["corpus", "check"],
    *([name, "--help"] for name in COMMANDS),
    *(["evaluate", name, "--help"] for name in ("susceptibility", "jailbreak", "harm", "capability")),
    *(["plan", name, "--help"] for name in ("steer", "cap", "random", "explain")),
]


def test_commands_that_need_no_model_import_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from personascope.cli import run\n"
        "for argv in json.loads(sys.argv[1]):\n"
        "    run(argv)\n"
        "    heavy = {'torch', 'transformers', 'matplotlib', 'vllm'} & set(sys.modules)\n"
        "    assert not heavy, (argv, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(LIGHT)],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_help_loads_no_room() -> None:
    # Of `runs` and `text` the console alone, which escapes control characters.
    code = (
        "import sys, json\n"
        "from personascope.cli import run\n"
        "for argv in json.loads(sys.argv[1]):\n"
        "    run(argv)\n"
        "    rooms = {name for name in sys.modules if name.startswith('personascope.')}\n"
        "    allowed = {'api', 'cli', 'errors', '_lazy', 'runs', 'text'}\n"
        "    rooms = {name.split('.')[1] for name in rooms} - allowed\n"
        "    heavy = rooms | {'numpy', 'pyarrow', 'scipy', 'yaml'} & set(sys.modules)\n"
        "    assert not heavy, (argv, heavy)\n"
    )
    helps = [argv for argv in LIGHT if "--help" in argv]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(helps)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_plan_is_explained_without_torch(tmp_path: Path) -> None:
    Plan((Steer(1, [1.0, 0.0], 2.0),)).save(tmp_path / "plan")
    code = (
        "import sys\nfrom personascope.cli import run\n"
        f"assert run(['plan', 'explain', {str(tmp_path / 'plan')!r}]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, personascope\n"
        "assert not {'numpy', 'torch', 'transformers', 'pyarrow', 'typer'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    "room", sorted(path.parent.name for path in Path(engines.__file__).parents[1].glob("*/__init__.pyi"))
)
def test_every_name_that_a_room_hands_on_exists(room: str) -> None:
    module = __import__(f"personascope.{room}", fromlist=["__all__"])
    assert all(getattr(module, name) is not None for name in module.__all__)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    help_text = " ".join(load_command(name).help.split())
    assert help_text.startswith(COMMANDS[name].help.rstrip(".")), help_text


def test_choices_are_those_that_exist() -> None:
    assert get_args(_options.EngineName) == ENGINES
    assert set(get_args(_options.ProfileName)) == set(PROFILES)
    assert get_args(_options.VectorsName) == get_args(Vectors)
    assert get_args(_options.PlanOnName) == get_args(PlanOn)
    assert _options.DOMAINS.split(",") == list(DOMAINS)
    assert _options.ASSISTANT_LIKE.split(",") == list(ASSISTANT_LIKE)
    assert _options.AUDITORS == AUDITORS
    assert _options.numbers(_options.STRENGTHS.default, "strengths") == list(STRENGTHS)
    assert "<quick|standard|paper>" in personascope("map", "--help").out


def test_help_lists_every_command() -> None:
    done = personascope("--help")
    assert done.code == 0
    assert all(f" {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["map", "some/model", "--profile", "huge"], "huge"),
        (["map", "some/model", "--judge", "oracle"], "oracle"),
        (["map", "some/model", "--judge", "none", "--engine", "warp"], "warp"),
        (["map", "some/model", "--judge", "none", "--dtype", "float7"], "float7"),
        (["map", "some/model", "--judge", "none", "--kinds", "riddles"], "riddles"),
        (["map", "some/model", "--judge", "none", "--corpus", "nowhere"], "nowhere"),
        (["map", "some/model", "--judge", "none", "--max-batch", "0"], "max-batch"),
        (["evaluate", "susceptibility", "RUN", "--judge", "oracle"], "oracle"),
        (["evaluate", "susceptibility", "RUN", "--strengths", "0,strong"], "strong"),
        (["evaluate", "susceptibility", "RUN", "--plan", "nowhere"], "nowhere"),
        (["evaluate", "susceptibility", "nowhere"], "nowhere"),
        (["evaluate", "jailbreak", "RUN", "--dataset", "nowhere.csv"], "nowhere.csv"),
        (["evaluate", "jailbreak", "RUN", "--layer", "99"], "99"),
        (["evaluate", "coherence", "RUN", "--chats", "nowhere.jsonl"], "nowhere.jsonl"),
        (["evaluate", "harm", "RUN", "--plan-on", "first"], "first"),
        (["evaluate", "harm", "RUN", "--judge", "oracle"], "oracle"),
        (["evaluate", "capability", "RUN", "--plan", "nowhere"], "nowhere"),
        (["calibrate", "RUN", "--anyway", "--windows", "a:b"], "a:b"),
        (["calibrate", "RUN", "--anyway", "--judge", "oracle"], "oracle"),
        (["calibrate", "RUN", "--anyway", "--dataset", "nowhere.csv"], "nowhere.csv"),
        (["steer", "RUN", "--anyway", "--strengths", "much"], "much"),
        (["steer", "RUN", "--plan", "nowhere"], "nowhere"),
        (["plan", "steer", "RUN", "0.2", "--anyway", "--out", "p", "--layer", "99"], "99"),
        (["simulate", "RUN", "--auditor", "nobody"], "nobody"),
        (["simulate", "RUN", "--auditor", "openai:m@http://h/v1?key=x"], "credentials"),
        (
            ["simulate", "RUN", "--auditor", "openai:m@http://h/v1", "--auditor-header", "a=NO_SUCH"],
            "not set",
        ),
        (["simulate", "RUN", "--auditor", "self", "--auditor-header", "a=B"], "takes headers"),
        (["simulate", "RUN", "--domains", "cooking"], "cooking"),
        (["simulate", "RUN", "--plan", "nowhere"], "nowhere"),
        (["simulate", "RUN", "--monitor", "nowhere.json"], "nowhere.json"),
        (["simulate", "RUN", "--probe", "role:nobody"], "nobody"),
        (["replay", "RUN", "nowhere"], "nowhere"),
        (["project", "RUN", "nowhere.json"], "nowhere.json"),
        (["project", "RUN", "chat.json", "--probe", "axes"], "axes"),
        (["norms", "RUN", "--chats", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_arguments_are_checked_before_a_model_is_loaded(
    args: list[str], word: str, mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mapped)
    monkeypatch.setattr(engines, "load_engine", lambda *_, **__: pytest.fail("a model was loaded"))
    done = personascope(*["run" if arg == "RUN" else arg for arg in args])
    assert done.code in (1, 2), (done.code, done.out, done.err)
    assert word in " ".join(done.err.split()), done.err


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a tiny model, and a chat."""
    folder = tmp_path_factory.mktemp("start")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    done = personascope(
        "map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none",
        "--default-samples", "4", "--out", folder / "run",
    )  # fmt: skip
    assert done.code == 0, done.err
    (folder / "chat.json").write_text(
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]'
    )
    return folder


def test_the_shell_completes() -> None:
    env = {"_PERSONASCOPE_COMPLETE": "complete_bash", "COMP_WORDS": "personascope cal", "COMP_CWORD": "1"}
    assert "calibrate" in personascope_process(**env).out.split()
    env |= {"COMP_WORDS": "personascope map x --prof", "COMP_CWORD": "3"}
    assert "--profile" in personascope_process(**env).out.split()


def test_exit_codes_of_the_program(tmp_path: Path) -> None:
    assert personascope_process("--version").code == 0
    assert personascope_process("show", tmp_path / "nowhere").code == 1
    assert personascope_process("show", "--ends", "-1", tmp_path).code == 2


def test_a_closed_pipe_ends_the_program_without_a_traceback() -> None:
    shown = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m personascope corpus show | head -1"],
        capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in shown.stderr and shown.stdout


def options() -> Iterator[tuple[str, str, Any]]:
    """Every number that a command takes: where, of which type, and what is said of it."""
    for name, entry in COMMANDS.items():
        module, _, attribute = entry.target.partition(":")
        found = getattr(importlib.import_module(f"personascope.cli.{module}"), attribute)
        grouped = isinstance(found, typer.Typer)
        functions = [one.callback for one in found.registered_commands] if grouped else [found]
        for function in functions:
            for one in inspect.signature(function).parameters.values():
                # The types of a group's options are read already.
                kind = one.annotation.__name__ if isinstance(one.annotation, type) else str(one.annotation)
                if kind in ("int", "list[int]", "float"):
                    yield f"{name} {function.__name__} {one.name}", kind, one.default


def test_every_number_has_its_range() -> None:
    """A whole number has its least value, and no number is "nan" or "inf"."""
    found = list(options())
    assert len(found) > 60
    assert not [name for name, kind, said in found if "int" in kind and said.min is None]
    assert not [
        name for name, kind, said in found if kind == "float" and said.callback is not _options.finite
    ]
    assert not [
        name for name, _, said in found if "seed" in name.split()[-1] and said.max != _options.MAX_SEED
    ]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["map", "smollm2-135m", "--max-batch", "0"], "--max-batch"),
        (["map", "smollm2-135m", "--seed", "-1"], "--seed"),
        (["map", "smollm2-135m", "--seed", "9223372036854775808"], "--seed"),
        (["map", "x", "--judge", "rules", "--max-cost", "nan"], "--max-cost"),
        (["steer", "RUN", "--temperature", "inf"], "inf is not a finite number"),
        (["plan", "steer", "RUN", "--out", "out", "--", "-inf"], "-inf is not a finite number"),
        (["steer", "RUN", "--strengths", "nan"], "not finite"),
        (["steer", "RUN", "--strengths", ","], "no number"),
        (["show", "x" * 5000], "too long for the name of a file"),
    ],
)
def test_numbers_and_names_out_of_range(args: list[str], word: str) -> None:
    done = personascope(*args)
    assert done.code == 2 and word in done.err and "Traceback" not in done.err
