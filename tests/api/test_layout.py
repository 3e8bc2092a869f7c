"""Where everything lies in a run folder."""

from __future__ import annotations

from pathlib import Path

from personascope.api import RunLayout


def test_the_paths_are_those_that_earlier_runs_have() -> None:
    layout = RunLayout(Path("run"))
    assert {str(path) for path in (layout.map, layout.norms, layout.monitor, layout.monitor_report)} == {
        "run/map",
        "run/norms.json",
        "run/monitor.json",
        "run/monitor_report.json",
    }
    assert str(layout.base) == "run/base"
    assert str(layout.evaluation("susceptibility")) == "run/evals/susceptibility"
    assert (str(layout.calibration), str(layout.recommended_plan)) == (
        "run/calibration",
        "run/calibration/plan",
    )
    assert (str(layout.conversations()), str(layout.cases), str(layout.cases_replayed)) == (
        "run/drift/simulated",
        "run/drift/cases",
        "run/drift/cases_replayed",
    )
    assert str(RunLayout.for_model("org/name").folder) == "runs/name"


def test_a_map_folder_is_taken_for_the_run_around_it(tmp_path: Path) -> None:
    (tmp_path / "run" / "map").mkdir(parents=True)
    assert RunLayout.of(tmp_path / "run" / "map").folder == tmp_path / "run"
    assert RunLayout.of(str(tmp_path / "run")).folder == tmp_path / "run"
    # A run folder that is itself called map.
    (tmp_path / "map" / "map").mkdir(parents=True)
    assert RunLayout.of(tmp_path / "map").folder == tmp_path / "map"
