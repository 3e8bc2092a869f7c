"""Conversations on the command line: simulated, monitored, analysed, replayed; a tiny model throughout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_case import save_model, write_corpus

from helpers.cli import personascope
from personascope.dynamics import read_drift
from personascope.dynamics.monitor import Monitor
from personascope.interventions import Cap, Plan
from personascope.mapping import MAP
from personascope.space import PersonaMap

FLOAT = ("--dtype", "float32", "--engine", "transformers")
SHORT = ("--turns", "3", "--max-new-tokens", "24", *FLOAT)


def done(*args: str | Path) -> str:
    result = personascope(*args)
    assert result.code == 0, (result.out, result.err)
    return result.out + result.err


def error(*args: str | Path) -> str:
    result = personascope(*args)
    assert result.code in (1, 2), (result.out, result.err)
    return " ".join(result.err.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dynamics")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    done(
        *("map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none"),
        *("--out", folder / "run", "--questions", "4", "--default-samples", "4", *FLOAT),
    )
    return folder / "run"


@pytest.fixture(scope="module")
def talks(run: Path) -> Path:
    told = done("simulate", run, "--conversations", "12", "--probe", "pc1", *SHORT)
    assert "48 of 48 conversations are over" in told
    return run / "drift" / "simulated"


def test_conversations_are_simulated_and_read_back(talks: Path) -> None:
    found = read_drift(talks)
    assert {d.domain for d in found.dialogues} == {"coding", "writing", "therapy", "philosophy"}
    assert all(len(d.turns) == 3 and d.ended == "turns" for d in found.dialogues)
    replies = [e for d in found.dialogues for e in d.turns if e.token_count]
    assert replies and all("pc1" in e.probes for e in replies)
    assert np.isfinite([e.projections[found.layer] for e in replies]).all()


def test_drift_writes_tables_figures_and_results(talks: Path) -> None:
    told = done("drift", talks, "--no-causes")
    for words in ("coding - therapy", "coding - philosophy", "last - first", "null"):
        assert words in told
    record = json.loads((talks / "results.json").read_text())
    assert {d["domain"] for d in record["trajectories"]["domains"]} >= {"coding", "philosophy"}
    assert len(record["contrasts"]) == 6
    assert (talks / "trajectories.png").stat().st_size > 10_000


def test_a_replay_under_a_cap_is_set_side_by_side(run: Path, talks: Path, tmp_path: Path) -> None:
    found = PersonaMap.open(run / MAP)
    at = found.middle_layer
    Plan((Cap(at, found.unit_axis(at), floor=50.0),)).save(tmp_path / "cap")
    told = done("replay", run, talks, "--plan", tmp_path / "cap", "--out", tmp_path / "capped", *FLOAT)
    assert "100.0%" in told  # the floor is above every token
    told = done("drift", talks, "--against", tmp_path / "capped")
    assert "replayed" in told
    for name in ("replay.json", "replay.png", "replay.html"):
        assert (tmp_path / "capped" / name).stat().st_size > 1000


def test_a_monitor_is_calibrated_loaded_and_acts(run: Path, talks: Path, tmp_path: Path) -> None:
    found = PersonaMap.open(run / MAP)
    at = found.middle_layer
    told = done("simulate", run, "--domains", "coding", "--conversations", "6", "--switch-at", "1", "--out",
                tmp_path / "switched", *SHORT)  # fmt: skip
    assert {d.switch for d in read_drift(tmp_path / "switched").dialogues} == {1}
    told = done("monitor", run, talks, "--anyway", "--rule", "threshold", "--switched", tmp_path / "switched",
                "--false-alarms", "0.2", "--out", tmp_path)  # fmt: skip
    assert "held out, Assistant-like" in told and "switched, from the switch on" in told
    report = json.loads((tmp_path / "monitor_report.json").read_text())
    assert set(report["switched"]) == {"cusum", "threshold"}
    # A cap as the gate, and a rule that any token sets off.
    loaded = Monitor.load(tmp_path / "monitor.json")
    record = loaded.record()
    record["rule"] |= {"limit": 1e6, "window": 1}
    (tmp_path / "eager.json").write_text(json.dumps(record))
    Plan((Cap(at, found.unit_axis(at), floor=50.0),)).save(tmp_path / "cap")
    done("replay", run, talks, "--monitor", tmp_path / "eager.json", "--gate", tmp_path / "cap", "--out",
         tmp_path / "gated", "--dtype", "float32")  # fmt: skip
    for dialogue in read_drift(tmp_path / "gated").dialogues:
        first = next((e for e in dialogue.turns if e.token_count), None)
        if first is None:
            continue
        assert first.alarm == 0 and first.capped_tokens == first.token_count - 1
        later = dialogue.turns[first.number + 1 :]
        assert all(e.plan is not None and e.alarm is None for e in later)
        assert all(e.capped_tokens > e.token_count for e in later if e.token_count)


def test_the_cases_are_played_and_stand_in_the_report(run: Path, tmp_path: Path) -> None:
    done("simulate", run, "--cases", "--max-new-tokens", "4", *FLOAT)
    done("replay", run, run / "drift" / "cases", *FLOAT)
    told = done("report", run, "--out", tmp_path / "report.html")
    assert "report_cases.html" in told
    page = (tmp_path / "report_cases.html").read_text()
    assert page.count("<svg") >= 3


def test_what_does_not_fit_together_is_refused(run: Path, talks: Path, tmp_path: Path) -> None:
    for args, text in [
        (("simulate", run, "--gate", tmp_path), "no monitor"),
        (("simulate", run, "--domains", "cooking"), "no domain 'cooking'"),
        (("simulate", run, "--auditor", "nobody", *FLOAT), "no auditor 'nobody'"),
        (("replay", run, run, *FLOAT), "another kind of run"),
        (("drift", run), "another kind of run"),
        (("monitor", run, talks, "--anyway", "--domains", "cooking"), "cooking"),
        (("monitor", run, talks, "--anyway", "--false-alarms", "0.001"), "0.001"),
    ]:
        assert text in error(*args)
    ran = personascope("simulate", run, "--auditor", "nobody", *FLOAT)
    assert ran.code == 2 and "no auditor 'nobody'" in ran.err
