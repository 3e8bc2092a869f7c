"""``--dry-run``: what a command would take, as counted by the command itself when it then runs; no file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_case import save_model, tree, write_corpus

from helpers.cli import Ran, personascope
from personascope.cli import _console
from personascope.corpus.datasets import load_basics
from personascope.dynamics import read_drift

FLOAT = ("--dtype", "float32", "--engine", "transformers")
PRICED = ("--judge", "openai:judge@http://127.0.0.1:9/v1", "--judge-price", "1,2")
"""A judge behind no server, which an estimate does not need."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dry run")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    made = personascope(
        *("map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none"),
        *("--out", folder / "run", "--questions", "4", "--default-samples", "4", *FLOAT),
    )
    assert made.code == 0, made.err
    return folder / "run"


def dry(run: Path, *args: str | Path) -> dict[str, Any]:
    """Run a command with ``--dry-run --json``, check that it wrote nothing, and return what it said."""
    before = tree(run)
    told = personascope(*args, "--dry-run", "--json")
    assert told.code == 0, (told.out, told.err)
    assert tree(run) == before
    found = json.loads(told.out)
    assert found["exit_code"] == 0 and "nothing is run or written" in found["lines"][0]
    return found


def done(*args: str | Path) -> Ran:
    ran = personascope(*args)
    assert ran.code in (0, 3), ran.err
    return ran


def parts(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in found["estimate"]}


def test_an_evaluation_counts_what_it_then_does(run: Path, tmp_path: Path) -> None:
    asked = ("evaluate", "coherence", run, "--strengths", "0,1", "--n-random", "1", "--limit", "3", *FLOAT)
    found = dry(run, *asked, "--out", tmp_path / "coherence")
    # No plan, one strength, and a control of each of three kinds; each response is then read for perplexity.
    own = parts(found)["coherence"]
    assert (own["responses"], own["passes"]) == (15, 15)
    assert own["prompt_tokens"] > own["responses"] and own["response_tokens"] > 0 and own["seconds"] > 0
    # The unit of strengths is not measured yet, and an estimate does not keep it.
    assert parts(found)["norms"]["passes"] == 40 and not (run / "norms.json").exists()
    assert found["total"]["responses"] == 15 and own["calls"] == 0
    assert found["files"] == [
        str(tmp_path / "coherence" / name)
        for name in ("manifest.json", "units", "results.json", "coherence.png")
    ]
    assert not list(tmp_path.iterdir())
    ran = done(*asked, "--out", tmp_path / "coherence")
    assert "15 responses in" in ran.out
    for path in found["files"]:
        assert Path(path).exists(), path
    again = dry(run, *asked, "--out", tmp_path / "coherence")
    assert list(parts(again)) == ["coherence"] and "holds a run already" in " ".join(again["remarks"])


def test_judging_is_counted_and_priced_without_a_call(run: Path, tmp_path: Path) -> None:
    asked = ("evaluate", "jailbreak", run, "--strengths", "1", "--n-random", "1", "--limit", "2", *FLOAT)
    found = dry(run, *asked, *PRICED, "--out", tmp_path / "jailbreak")
    own = parts(found)["jailbreak"]
    assert own["calls"] == own["responses"] > 0
    assert own["sent"] > 100 * own["calls"] and own["received"] > 0
    assert own["cost"] == pytest.approx((own["sent"] + 2 * own["received"]) / 1e6)
    unpriced = dry(run, *asked, *PRICED[:2], "--out", tmp_path / "jailbreak")
    assert parts(unpriced)["jailbreak"]["cost"] is None
    assert any("--judge-price" in remark for remark in unpriced["remarks"])
    offline = parts(dry(run, *asked, "--out", tmp_path / "jailbreak"))["jailbreak"]
    assert offline["calls"] == own["calls"] and (offline["sent"], offline["cost"]) == (0, None)
    unjudged = parts(dry(run, *asked, "--judge", "none", "--out", tmp_path / "jailbreak"))["jailbreak"]
    assert unjudged["calls"] == 0


def test_a_sweep_counts_its_four_evaluations(run: Path, tmp_path: Path) -> None:
    asked = (
        *("calibrate", run, "--anyway", "--windows", "1:3", "--axis-percentiles", "50", "--n-random", "1"),
        *(
            "--roles",
            "2",
            "--jailbreaks",
            "2",
            "--questions",
            "3",
            "--chats",
            "2",
            "--out",
            tmp_path / "sweep",
        ),
    )
    corpus = ("--corpus", run.parent / "corpus")
    found = dry(run, *asked, *corpus, *FLOAT)
    own = parts(found)
    assert list(own) == ["susceptibility", "jailbreak", "basics", "divergence"]
    # Of each: no plan, the cap, and a control of each of three kinds.
    assert "1 caps with 3 controls each: 5 conditions of each evaluation" in found["remarks"]
    choices = sum(len(question.choices) for question in load_basics()[:3])
    assert (own["basics"]["responses"], own["basics"]["passes"]) == (0, 5 * choices)
    # The answers are scored without a plan, and under each of four.
    assert (own["divergence"]["responses"], own["divergence"]["passes"]) == (2, 2 * 5)
    done(*asked, *corpus, *FLOAT)
    record = json.loads((tmp_path / "sweep" / "jailbreak" / "manifest.json").read_text())
    rows = [len(read_rows(tmp_path / "sweep" / name)) for name in ("susceptibility", "jailbreak")]
    assert rows == [own["susceptibility"]["responses"], own["jailbreak"]["responses"]], record["notes"]


def read_rows(folder: Path) -> list[Any]:
    from personascope.evals import read_evaluation

    return [row for condition in read_evaluation(folder) for row in condition.rows]


def test_a_sweep_of_steering_measures_its_unit_and_keeps_it_not(run: Path, tmp_path: Path) -> None:
    (run / "norms.json").unlink(missing_ok=True)
    found = dry(
        run,
        *("calibrate", run, "--steer", "--anyway", "--strengths", "0.1", "--layers", "2", "--n-random", "1"),
        *(
            "--roles",
            "2",
            "--jailbreaks",
            "1",
            "--questions",
            "2",
            "--chats",
            "2",
            "--out",
            tmp_path / "sweep",
        ),
        *("--corpus", run.parent / "corpus", *FLOAT),
    )
    assert next(iter(parts(found))) == "norms" and not list(tmp_path.iterdir())


def test_harm_counts_both_replies(run: Path, tmp_path: Path) -> None:
    asked = (
        *("evaluate", "harm", run, "--roles", "2", "--questions", "2", "--per-reply", "2", "--no-no-role"),
        *("--corpus", run.parent / "corpus", "--out", tmp_path / "harm", "--first-tokens", "6", *FLOAT),
    )
    found = dry(run, *asked)
    (own,) = found["estimate"]
    # Two first replies of each role, and two harmful questions after each.
    assert own["responses"] <= 4 + 8 and own["calls"] <= 8
    assert "2 groups of trials: 4 first replies, 8 second ones" in found["remarks"]
    assert not list(tmp_path.iterdir())


def test_conversations_count_their_turns_and_their_auditor(run: Path, tmp_path: Path) -> None:
    asked = (
        *("simulate", run, "--domains", "coding", "--conversations", "3", "--turns", "3", "--layer", "2"),
        *("--max-new-tokens", "8", "--out", tmp_path / "talks", *FLOAT),
    )
    found = dry(run, *asked)
    own = parts(found)
    assert own["replies"]["responses"] == 9 and list(own) == ["replies"]
    played = parts(dry(run, *asked, "--auditor", "self"))
    assert (played["replies"]["responses"], played["auditor"]["responses"]) == (9, 9)
    served = parts(dry(run, *asked, "--auditor", "openai:user@http://127.0.0.1:9/v1"))["auditor"]
    assert (served["responses"], served["calls"]) == (0, 9) and served["sent"] > served["received"] > 0
    done(*asked)
    turns = [turn for one in read_drift(tmp_path / "talks").dialogues for turn in one.turns]
    assert len(turns) == 9
    # A prompt grows by the same with each turn, so the middle turn stands for all.
    really = sum(turn.prompt_tokens for turn in turns)
    assert own["replies"]["prompt_tokens"] == pytest.approx(really, rel=0.35)
    again = dry(run, "replay", run, tmp_path / "talks", "--out", tmp_path / "again", *FLOAT)
    assert parts(again)["replies"]["responses"] == 9 and not (tmp_path / "again").exists()
    kept = tree(tmp_path)
    found = dry(run, "drift", tmp_path / "talks", "--no-causes")
    assert found["estimate"] == [] and found["remarks"] == ["3 conversations, 9 turns"]
    assert tree(tmp_path) == kept


def test_a_projection_and_the_norms_count_what_they_read(run: Path, tmp_path: Path) -> None:
    chats = [
        [{"role": "user", "content": "Who are you? " * n}, {"role": "assistant", "content": "I am. " * n}]
        for n in range(1, 41)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    asked = ("project", run, tmp_path / "chats.jsonl", "--dtype", "float32")
    (own,) = dry(run, *asked, "--out", tmp_path / "projected")["estimate"]
    assert own["passes"] == 40 and not (tmp_path / "projected").exists()
    (few,) = dry(run, *asked, "--limit", "4")["estimate"]
    assert few["passes"] == 4 and few["prompt_tokens"] < own["prompt_tokens"] / 10
    (norms,) = dry(run, "norms", run, "--limit", "20", "--dtype", "float32")["estimate"]
    assert norms["passes"] == 20


def test_capability_counts_documents(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    asked = ("evaluate", "capability", run, "--tasks", "personascope_basics,nowhere", "--limit", "7", *FLOAT)
    found = dry(run, *asked, "--out", tmp_path / "capability")
    (own,) = found["estimate"]
    choices = {len(question.choices) for question in load_basics()}
    assert own["passes"] in {7 * count for count in choices}
    assert any("nowhere cannot be run" in remark for remark in found["remarks"])


def test_map_and_traits_say_it_in_json_too(run: Path) -> None:
    place = run.parent
    told = personascope(
        *("map", place / "model", "--corpus", place / "corpus", "--profile", "quick", "--judge", "none"),
        *(
            "--out",
            place / "dry",
            "--questions",
            "4",
            "--default-samples",
            "4",
            "--dry-run",
            "--json",
            *FLOAT,
        ),
    )
    assert told.code == 0, told.err
    found = json.loads(told.out)["estimate"]
    assert found["rollouts"] > 0 and found["seconds"] > 0 and found["disk"]["map"] > 0
    assert not (place / "dry").exists()


def test_the_table_reads_at_80_columns(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_console.out, "_width", 80)
    told = personascope(
        *("calibrate", run, "--anyway", "--windows", "1:3", "--axis-percentiles", "50", "--n-random", "1"),
        *("--roles", "2", "--jailbreaks", "2", "--questions", "3", "--chats", "2", "--out", tmp_path / "s"),
        *("--corpus", run.parent / "corpus", "--dry-run", *FLOAT, *PRICED),
    )
    assert told.code == 0, told.err
    table = [line for line in told.out.splitlines() if "would write" not in line]
    assert max(map(len, table)) <= 80 and "…" not in told.out
    work, judging = (line for line in table if line.split()[:1] == ["all"])
    # Responses, texts, tokens read and written, minutes; calls, tokens sent and received, cost.
    assert len(re.findall(r"[\d,.]+", work)) == 5 and len(re.findall(r"[\d,.]+", judging)) == 4
    for word in ("susceptibility", "jailbreak", "divergence"):
        assert any(line.split()[:1] == [word] for line in table), word
