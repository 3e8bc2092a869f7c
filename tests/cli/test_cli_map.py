"""Map, show, project and report from the command line, on a tiny model with random weights."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_case import save_model, tree, write_corpus

from helpers.cli import Ran, personascope
from personascope.cli import _show
from personascope.dynamics.projection import read_projections


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    done = personascope(*command(place, place / "run"))
    assert done.code == 0, done.err
    assert done.out.index("Is there an axis?") < done.out.index("layer ")
    return place / "run"


def command(place: Path, out: Path) -> list[str | Path]:
    return [
        "map", place / "model", "--corpus", place / "corpus", "--profile", "quick", "--judge", "none",
        "--default-samples", "4", "--out", out,
    ]  # fmt: skip


def test_show_lists_layers_and_roles(run: Path) -> None:
    done = personascope("show", run)
    assert done.code == 0
    for word in ("cos(axis, PC1)", "captain", "robot", "split-half"):
        assert word in done.out


def test_the_same_command_finds_nothing_to_do(run: Path, place: Path) -> None:
    before = {name: content for name, content in tree(run).items() if "units" in name}
    done = personascope(*command(place, run))
    assert done.code == 0, done.err
    assert {name: content for name, content in tree(run).items() if "units" in name} == before


def test_dry_run_writes_nothing(place: Path) -> None:
    done = personascope(*command(place, place / "dry"), "--dry-run")
    assert done.code == 0, done.err
    for word in ("rollouts", "response tokens", "time", "disk", "judge"):
        assert word in done.out
    assert not (place / "dry").exists()


def test_a_map_that_stops_says_why_and_shows_its_curve(place: Path) -> None:
    goal = ["--until", "tokens=600", "--until", "axis=0.9999"]
    # Whether a model of random weights plays, so that a look knows a precision, depends on the dtype.
    asked = [*command(place, place / "adaptive"), *goal, "--vectors", "rubric"]
    dry = personascope(*asked, "--dry-run")
    assert dry.code == 0 and "an estimate" in dry.out and not (place / "adaptive").exists(), dry.err
    done = personascope(*asked)
    assert done.code == 0, done.err
    assert "stopped by tokens=600 after" in done.out and "axis=0.9999 was not reached" in done.out
    shown = personascope("show", place / "adaptive").out
    assert "Learning curve" in shown and "opening" in shown, shown
    assert "precision at layer" in shown, shown


def test_show_prints_the_curve_of_a_fixed_map(run: Path) -> None:
    assert "Learning curve" in personascope("show", run).out
    assert "Learning curve" not in personascope("show", run, "--no-layers").out


@pytest.mark.parametrize("wrong", ["axis=1.5", "axis", "luck=1", "cost=2", "minutes=never"])
def test_what_a_map_cannot_run_until_is_said_before_the_model_is_loaded(place: Path, wrong: str) -> None:
    done = personascope(*command(place, place / "wrong"), "--until", wrong)
    assert done.code == 2 and wrong.split("=")[0] in done.err, (done.out, done.err)
    assert "loading" not in done.err + done.out and not (place / "wrong").exists()


def test_project_in_its_three_forms(run: Path, place: Path) -> None:
    chat = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "The wind [behind] the door."},
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Then it is quiet."},
    ]
    (place / "chat.json").write_text(json.dumps(chat))
    text = "\n".join(f"{turn['role'].title()}: {turn['content']}" for turn in chat)
    (place / "chat.txt").write_text(text)
    as_json = json.loads(personascope("project", run, place / "chat.json", "--format", "json").out)
    assert [turn["role"] for turn in as_json["turns"]] == ["user", "assistant"] * 2
    as_csv = list(
        csv.DictReader(io.StringIO(personascope("project", run, place / "chat.txt", "--format", "csv").out))
    )
    assert [float(row["projection"]) for row in as_csv] == [turn["projection"] for turn in as_json["turns"]]
    table = personascope("project", run, place / "chat.json")
    assert table.code == 0 and "[behind]" in table.out


def project(*args: str | Path, given: str = "") -> Ran:
    return personascope("project", *args, given=given)


def conversations(place: Path) -> Path:
    chats = [
        [
            {"role": "user", "content": f"Who lives at {n}?"},
            {"role": "assistant", "content": f"The {n}th [cat]."},
        ]
        for n in range(4)
    ]
    chats[2] = [{"role": "wizard", "content": "Hm."}]
    path = place / "chats.json"
    path.write_text(json.dumps(chats))
    return path


def test_project_many_into_a_folder(run: Path, place: Path) -> None:
    source, folder = conversations(place), place / "projected"
    command = (run, source, "--probe", "pc1", "--probe", "role:poet@1", "--layer", "2", "--out", folder)
    done = project(*command)
    assert done.code == 3, (done.out, done.err)
    said = " ".join(done.out.split())
    assert "3 conversations of 4 entries, 6 turns" in said and "mean position of 3 replies" in said
    assert "chats.json: entry 3: unreadable" in done.err and "'wizard'" in done.err
    kept = read_projections(folder)
    assert (kept.layer, kept.probes) == (2, ("axis", "pc1", "role:poet@1"))
    assert [len(entry.turns) for entry in kept] == [2, 2, 0, 2]
    assert {path.name for path in folder.iterdir()} >= {"units", "projections.csv", "summary.json"}
    before = tree(folder)
    assert project(*command, "--format", "csv").code == 3
    assert tree(folder) == before


def test_project_many_as_lines_with_tokens(run: Path, place: Path) -> None:
    done = project(run, conversations(place), "--tokens", "--format", "jsonl")
    assert done.code == 3, (done.out, done.err)
    entries = [json.loads(line) for line in done.out.splitlines()]
    assert [entry["status"] for entry in entries] == ["projected", "projected", "unreadable", "projected"]
    for turn in (turn for entry in entries for turn in entry["turns"]):
        assert len(turn["axis tokens"]) == len(turn["token_ids"]) == turn["tokens"]
        assert turn["projection"] == pytest.approx(sum(turn["axis tokens"]) / turn["tokens"], rel=1e-4)
        assert 1 <= turn["percentile"] <= 99
    every = json.loads(project(run, conversations(place), "--format", "json").out)
    assert [entry["id"] for entry in every["conversations"]] == [entry["id"] for entry in entries]


def test_project_from_standard_input_and_wrong_usage(run: Path) -> None:
    done = project(run, "-", given="User: Who are you?\nAssistant: [Nobody].")
    assert done.code == 0, (done.out, done.err)
    assert "percentile" in done.out and "[Nobody]" in done.out
    for args, word in ((["--tokens"], "--tokens"), (["--restart"], "--out"), (["--probe", "axes"], "axes")):
        wrong = project(run, "-", *args, given="User: Who are you?")
        assert wrong.code == 2 and word in wrong.err


def test_report_is_one_file(run: Path, place: Path) -> None:
    done = personascope("report", run, "--out", place / "page.html")
    assert done.code == 0, done.err
    page = (place / "page.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>") and "captain" in page


def test_partly_done_is_3_and_says_why(place: Path) -> None:
    """The judge's server is not there: everything is generated, nothing lost, and it is said."""
    args = [
        arg if arg != "none" else "openai:judge@http://127.0.0.1:9/v1"
        for arg in command(place, place / "partly")
    ]
    done = personascope(*args)
    assert done.code == 3, (done.out, done.err)
    assert "partly done" in done.err and "judge" in done.err
    again = personascope(*command(place, place / "partly"))
    assert again.code == 1 and "judge" in again.err


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ("played", "not ranked, played too little for a vector: pirate, poet (1 of 4)"),
        ("rubric", "not ranked, too few responses with the score 3 for a vector: pirate, poet (2 of 4)"),
    ],
)
def test_roles_without_a_vector_are_listed_with_the_reason(
    vectors: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    poet = SimpleNamespace(information=0.1, played=1, responses=4)
    checks = SimpleNamespace(roles={"poet": poet}, vectors=vectors)
    _show._print_left_out(SimpleNamespace(checks=checks, excluded={"pirate": 0, "poet": 2}))  # type: ignore[arg-type]
    assert " ".join(capsys.readouterr().out.split()) == told
