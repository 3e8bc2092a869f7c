"""Progress display: a bar on a terminal and in a notebook, a line every half minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from personascope.runs._console import SafeConsole
from personascope.runs._progress import Progress, ProgressCallback
from personascope.text import escape_controls

EVERY = 30.0
"""Seconds between two lines without a terminal."""


class ProgressBar:
    """Show progress: phase, counts, rate, time left, and the cost of judging.

    Use it as a context manager.

    Args:
        console: Console to draw on; standard error by default.
        every: Seconds between two lines if the console is no terminal.
    """

    def __init__(self, console: Console | None = None, *, every: float = EVERY) -> None:
        """Start the clock of the rate."""
        self._console = console or SafeConsole(stderr=True, highlight=False)
        self._drawn = self._console.is_terminal or self._console.is_jupyter
        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._drawn,
            expand=True,
        )
        self._task: TaskID | None = None
        self._every = every
        self._begun = self._told = time.monotonic()
        self._before, self._total = 0, -1
        self._phases: set[str] = set()

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, state: Progress) -> None:
        """Show a new state of the run."""
        now = time.monotonic()
        if state.total != self._total:
            # A new total means the next piece of work, such as a sweep's second evaluation.
            self._total, self._before, self._begun = state.total, state.done, now
            if state.done:
                there = _of(state) or f"{state.done:,}"
                self._console.print(f"going on: {there} are there already")
        if state.phase == "start" and not self._drawn:
            return
        note = self._note(state, now)
        if self._drawn:
            if self._task is None:
                self._task = self._bar.add_task(state.phase, total=None, note="")
            self._bar.update(
                self._task,
                description=state.phase,
                completed=state.done,
                total=state.total or None,
                note=note,
            )
        elif state.phase not in self._phases or now - self._told >= self._every:
            # Print a phase when it first occurs, and then by the clock, because phases alternate.
            self._phases.add(state.phase)
            self._told = now
            self._console.print(
                ": ".join(filter(None, [state.phase, ", ".join(filter(None, [_of(state), note]))])),
                soft_wrap=True,
                markup=False,
            )

    def _note(self, state: Progress, now: float) -> str:
        seconds = max(now - self._begun, 1e-9)
        made = state.done - self._before
        parts: list[str] = []
        # A rate over no time at all is no rate.
        if state.tokens and seconds >= 0.1:
            parts.append(f"{state.tokens / seconds:.0f} tokens/s")
        if made and state.total > state.done:
            parts.append(f"{_duration(seconds / made * (state.total - state.done))} left")
        if state.cost:
            parts.append(f"cost {state.cost:.4f}")
        if state.waiting:
            parts.append(f"{state.waiting} verdicts awaited")
        if state.unscored:
            parts.append(f"{state.unscored} without a label")
        if state.note:
            parts.append(escape_controls(state.note))
        return ", ".join(parts)


def _of(state: Progress) -> str:
    if not state.total:
        return ""
    return f"{state.done:,} of {state.total:,} ({state.done / state.total:.0%})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


@contextmanager
def shown(progress: ProgressCallback | bool) -> Generator[ProgressCallback | None]:
    """Yield the progress callback of a run: a new bar for True, None for False, else the caller's own."""
    if callable(progress):
        yield progress
    elif progress:
        with ProgressBar() as bar:
            yield bar
    else:
        yield None
