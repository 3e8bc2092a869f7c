"""The progress bar of the long commands."""

from __future__ import annotations

import time

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from personascope.cli._console import err


class Bar:
    """A progress bar on stderr; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        """Begin the clock of the rate; the bar shows when it is entered."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
        )
        self._begun = time.monotonic()

    def __enter__(self) -> Bar:
        self._bar.start()
        self._task = self._bar.add_task("generate", total=None, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, phase: str, done: int, total: int, tokens: int, note: str) -> None:
        """Show where a run stands; ``tokens`` are those that were generated since the bar was made."""
        rate = tokens / max(time.monotonic() - self._begun, 1e-9)
        note = f"{rate:.0f} tokens/s, {note}"
        self._bar.update(self._task, description=phase, completed=done, total=total, note=note)
