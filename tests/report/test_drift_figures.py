"""The figures of persona dynamics: written whole in three formats, with their n, and laid out."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

from personascope.dynamics.causes import find_causes
from personascope.dynamics.trajectories import compare_replays, trajectories
from personascope.errors import UsageError
from personascope.report import (
    ClusterData,
    PredictionData,
    ReplayData,
    TrajectoryData,
    cluster_figure,
    prediction_figure,
    replay_figure,
    trajectory_figure,
)
from personascope.report.figures._data import Estimate, Series
from personascope.report.figures._drift import _looks
from personascope.report.figures._drift_data import ClusterRow, PredictionPanel, ReplayPanel, TrajectoryLine
from trajectory_case import FakeEncoder, dialogue, grid, run

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
MANY = "Would you please, and I ask it as a friend, tell me what $5 and $6 feel like to you? " * 6


def series(start: float, count: int = 6, fall: float = 0.02) -> Series:
    values = [start - fall * i for i in range(count)]
    return Series(values, [v - 0.05 for v in values], [v + 0.05 for v in values])


def line(name: str, start: float, count: int = 6) -> TrajectoryLine:
    return TrajectoryLine(
        name, list(range(1, count + 1)), series(start, count), [40 - i for i in range(count)]
    )


def trajectory() -> TrajectoryData:
    lines = [line("coding", 1.0), line("writing", 0.99), line("therapy", 0.7, 3), line("$a_b$ cooking", 0.68)]
    return TrajectoryData(lines, "Made up", ("therapy: turns dropped because of this and that: 4 (9).",))


def panel(name: str = "Position of the reply", n: int = 60) -> PredictionPanel:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=n)
    return PredictionPanel(
        name=name,
        actual=actual.tolist(),
        predicted=(0.5 * actual).tolist(),
        domains=["coding", "therapy", "philosophy"] * (n // 3),
        held_out=Estimate(0.5, 0.4, 0.6),
        shuffled=(-0.031, -0.001),
        shuffles=100,
        baselines={"domain": 0.31, "turn": 0.02, "domain and turn": 0.33},
        within_domain=Estimate(0.2, 0.1, 0.3),
        within_shuffled=(-0.02, 0.01),
        in_sample=0.83,
        held_together="80 topics",
    )


def predictions() -> PredictionData:
    return PredictionData([panel(), panel("Change from the reply before")], "Made up")


def clusters() -> ClusterData:
    rows = [
        ClusterRow(
            Estimate(change, change - 0.02, change + 0.02),
            (-0.01, 0.012),
            120,
            18,
            {"therapy": 0.75, "coding": 0.25},
            [MANY, "What is it like?", "And then?", "The fourth is not shown."],
        )
        for change in (-0.1, 0.0, 0.05)
    ]
    return ClusterData(rows, 0.15, (0.01, 0.05), 0.0005, "Made up")


def replays(fired: tuple[float | None, ...] = (0.0, 0.2, None, 0.5, 1.0, 1.0), panels: int = 3) -> ReplayData:
    bare = [math.nan] * 6
    one = ReplayPanel(
        "case $1$ of one", range(1, 7), Series(series(0.9).values, bare, bare), series(1.0), fired, [1] * 6
    )
    return ReplayData([one] * panels, "Made up", planned="cap on $layers$ 12 to 19")


FIGURES = [
    (trajectory_figure, trajectory),
    (prediction_figure, predictions),
    (cluster_figure, clusters),
    (replay_figure, replays),
]


@pytest.mark.parametrize(("draw", "data"), FIGURES)
@pytest.mark.parametrize("suffix", MAGIC)
def test_each_figure_is_written_in_each_format(tmp_path, draw, data, suffix) -> None:
    # Matplotlib warns where it cannot lay a figure out, and then lets words collide.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(tmp_path / f"a{suffix}", data())
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first.startswith(MAGIC[suffix]) and len(first) > 4000
    if suffix == ".svg":
        draw(tmp_path / "b.svg", data())
        assert first == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(UsageError, match=r"figure\.jpg"):
        draw(tmp_path / "figure.jpg", data())


@pytest.mark.parametrize("panels", [1, 4, 5])
@pytest.mark.parametrize("fired", [(1.0,) * 6, (None,) * 6])
def test_replays_are_laid_out_whatever_their_number(tmp_path, panels, fired) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replay_figure(tmp_path / "a.svg", replays(fired, panels))
    page = words(tmp_path / "a.svg")
    assert page.count("case $1$ of one") == panels
    assert ("Tokens" in page) == (fired[0] is not None)


def words(path) -> str:
    """All that a figure says, without its marks."""
    return "\n".join(re.findall(r"<text[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"), re.DOTALL))


def text(tmp_path, draw, data) -> str:
    draw(tmp_path / "figure.svg", data)
    return words(tmp_path / "figure.svg")


def test_the_words_of_a_figure_are_in_it(tmp_path) -> None:
    page = text(tmp_path, trajectory_figure, trajectory())
    for said in ("coding (n = 40 to 35)", "therapy (n = 40 to 38)", "$a_b$ cooking (n = 40 to 35)", "4 (9)"):
        assert said in page
    assert "Position (0 mean role, 1 default Assistant)" in page and "Turn" in page

    page = text(tmp_path, prediction_figure, predictions())
    for said in (
        "n = 60 replies; 80 topics, each held out once",
        "targets shuffled, 100 times: -0.03 to 0.00",
        "without messages: domain 0.31, turn 0.02, domain and turn 0.33",
        "beyond the domain: 0.20 (0.10 to 0.30)",
        "in sample, which is no evidence: 0.83",
    ):
        assert page.count(said) == 2

    page = text(tmp_path, cluster_figure, clusters())
    assert "n = 360 turns, 54 different messages" in page and "120 turns" in page
    assert "therapy 75%, coding 25%" in page and "What is it like?" in page and "fourth" not in page
    assert "$5 and $6" in page and page.count("Would you please") < 3 * 4 and "\u2026\u201d" in page
    assert "highest less lowest: 0.15, at random 0.01 to 0.05, p = 0.0005" in page

    page = text(tmp_path, replay_figure, replays())
    assert (
        "n = 1 conversation a panel; each point is one reply" in page and "cap on $layers$ 12 to 19" in page
    )
    many = replace(replays().panels[0], n=[20, 20, 20, 20, 20, 18])
    page = text(tmp_path, replay_figure, replace(replays(), panels=[many]))
    assert "(n = 20 to 18)" in page and "bands: 95% intervals" in page


def test_the_results_of_dynamics_are_taken_as_they_are(tmp_path) -> None:
    rng = np.random.default_rng(0)

    def path(domain, *_):
        return (0.9 if domain == "coding" else 0.6) + rng.normal(0, 0.1, 4)

    made = grid(path, topics=6, texts=lambda d, _, t: [f"{d} {t} {turn}" for turn in range(4)])
    found = trajectories(made)
    data = TrajectoryData.of(found, "Made up")
    assert [one.name for one in data.lines] == ["coding", "therapy"]
    assert data.lines[1].turns == [1, 2, 3, 4] and data.lines[1].n == [18] * 4
    assert data.lines[1].position.values[2] == found.domains[1].turns[2].position.estimate

    causes = find_causes(made, FakeEncoder(), shuffles=5, n_boot=50)
    pair = PredictionData.of([causes.prediction("position"), causes.prediction("change")], "Made up")
    assert len(pair.panels[0].actual) == 144 and len(pair.panels[1].actual) == 108
    assert pair.panels[0].held_together == "12 topics"
    assert pair.panels[0].held_out == Estimate.of(causes.predictions[0].held_out)
    table = ClusterData.of(causes.clusters, "Made up")
    assert len(table.rows) == causes.clusters.k and table.rows[0].n == causes.clusters.clusters[0].change.n

    higher = [
        dialogue(d.domain, int(d.persona[1:]), d.number, made.positions(d) + 0.1, [e.user for e in d.turns])
        for d in made.dialogues
    ]
    again = ReplayData.of(compare_replays(made, run(higher)), "Made up", planned="cap")
    assert [p.n for p in again.panels] == [[18] * 4] * 2 and again.planned == "cap"
    gap = np.subtract(again.panels[0].planned.values, again.panels[0].plain.values)
    assert gap == pytest.approx([0.1] * 4)
    for draw, of in ((trajectory_figure, data), (prediction_figure, pair), (cluster_figure, table)):
        draw(tmp_path / "a.pdf", of)
    replay_figure(tmp_path / "a.pdf", again)


def test_domains_keep_their_colour_and_others_get_one_of_their_own() -> None:
    both = _looks(["therapy", "cooking", "coding", "law"])
    assert both["coding"] == _looks(["coding"])["coding"]
    assert len({look[0] for look in both.values()}) == 4
    assert len(set(_looks([f"domain {i}" for i in range(9)]).values())) == 9


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TrajectoryData([], "t"), "trajectories has nothing"),
        (lambda: PredictionData([], "t"), "predictions has nothing"),
        (lambda: ClusterData([], 0.1, (0.0, 0.1), 0.5, "t"), "clusters has nothing"),
        (lambda: ReplayData([], "t"), "replays has nothing"),
        (lambda: replace(line("a", 1.0), n=[1]), "n of a has 1 values, and the turns are 6"),
        (lambda: replace(line("a", 1.0), turns=[1, 2, 3, 3, 4, 5]), "rising"),
        (lambda: replace(panel(), predicted=[0.1]), "predicted has 1 values, and the rows are 60"),
        (lambda: replace(panel(), domains=["a"]), "domains has 1 values"),
        (lambda: replace(replays().panels[0], fired=[0.1]), "fired has 1 values"),
        (lambda: replace(replays().panels[0], plain=series(1.0, 2)), "plain has 2 values"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused_by_name(make, said) -> None:
    with pytest.raises(UsageError, match=said):
        make()
