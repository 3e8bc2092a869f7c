"""The bar: drawn on a terminal, lines without one, and what a resumed run says."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from personascope.runs import Progress, _bar, shown
from personascope.runs._bar import ProgressBar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]
    monkeypatch.setattr(_bar.time, "monotonic", lambda: now[0])
    return now


def lines(clock, states: list[tuple[float, Progress]]) -> list[str]:
    text = io.StringIO()
    with ProgressBar(Console(file=text, width=80)) as bar:
        for seconds, state in states:
            clock[0] = 1000.0 + seconds
            bar(state)
    return text.getvalue().splitlines()


def test_without_a_terminal_a_line_every_half_minute(clock) -> None:
    said = lines(clock, [(n, Progress("generate", n, 120, 10 * n, "captain")) for n in range(1, 120)])
    assert said[0] == "going on: 1 of 120 (1%) are there already"
    assert len(said) == 5
    assert said[2] == "generate: 31 of 120 (26%), 10 tokens/s, 89 s left, captain"


def test_a_run_that_is_there_already_has_no_rate(clock) -> None:
    said = lines(clock, [(0.0, Progress("simulate", 1, 1, 256))])
    assert said[-1] == "simulate: 1 of 1 (100%)"


def test_each_phase_is_told_when_it_comes(clock) -> None:
    states = [Progress("generate", 5, 10), Progress("judge", 5, 10), Progress("generate", 6, 10)]
    said = lines(clock, [(n, state) for n, state in enumerate(states)])
    assert [line.split(":")[0] for line in said] == ["going on", "generate", "judge"]


def test_cost_and_missing_labels_are_said(clock) -> None:
    state = Progress("judge", 10, 10, unscored=3, waiting=2, cost=0.0125)
    assert (
        lines(clock, [(1.0, state)])[-1]
        == "judge: 10 of 10 (100%), cost 0.0125, 2 verdicts awaited, 3 without a label"
    )


def test_a_terminal_gets_a_bar_that_fits_80_columns(clock) -> None:
    text = io.StringIO()
    console = Console(file=text, width=80, force_terminal=True, legacy_windows=False)
    with ProgressBar(console) as bar:
        for n in range(5):
            clock[0] += 1
            bar(Progress("generate", n, 10, 100 * n, "a condition with a name"))
    assert "generate" in text.getvalue() and "4/10" in text.getvalue()


def test_what_is_asked_for_is_shown() -> None:
    seen: list[Progress] = []
    with shown(seen.append) as tell:
        assert tell is not None
        tell(Progress("x"))
    with shown(False) as tell:
        assert tell is None
    with shown(True) as tell:
        assert isinstance(tell, ProgressBar)
    assert len(seen) == 1
