"""Rows of a proof, and sections of it that run in processes of their own, each within its time.

A section prints a row as soon as it has one, so that what a section had shown before its time was up is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

MARK = "ROW "
START = 8.0
"""Seconds that a process takes to import torch and Transformers, on top of its section's."""

BAD = ("failed", "error")
"""Verdicts that make the whole proof fail; a goal of cost that is not met does not."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a section's table.

    Attributes:
        what: What was checked or measured.
        value: What came out.
        goal: What was asked for, or nothing.
        verdict: "passed" or "failed" for a check; "met", "not met" or "open" for a goal of cost, open where
            its interval holds the goal; "skipped", "unsupported" or "error", with the reason as value; or
            nothing.
    """

    what: str
    value: str
    goal: str = ""
    verdict: str = ""


def tell(row: Row) -> None:
    """Print a row to the process that runs this section."""
    print(MARK + json.dumps(asdict(row)), flush=True)


def check(what: str, value: str, goal: str, passed: bool) -> None:
    """Print the row of a check that must pass."""
    tell(Row(what, value, goal, "passed" if passed else "failed"))


def cost(what: str, ratio: float, low: float, high: float, goal: float | None) -> None:
    """Print the row of a ratio of times with its 95% interval."""
    verdict = "" if goal is None else "met" if high <= goal else "not met" if low > goal else "open"
    wanted = "" if goal is None else f"at most {goal:g}"
    tell(Row(what, f"{ratio:.4f} ({low:.4f} to {high:.4f})", wanted, verdict))


def run_section(
    script: str, name: str, seconds: float, left: float, environment: Mapping[str, str]
) -> tuple[list[Row], float]:
    """Run one section of a script as ``script --section name seconds``, and return its rows.

    Args:
        script: The script's file.
        name: The section.
        seconds: What it may take, the start of its process not counted.
        left: What is left of the whole proof's time; a section that might pass it is skipped.
        environment: Variables that are set for it.

    Returns:
        Its rows, and the seconds that it took.
    """
    if left < seconds + START:
        reason = f"it may take {seconds + START:.0f} s, and {left:.0f} s are left"
        return [Row("the whole section", reason, verdict="skipped")], 0.0
    begun = time.monotonic()
    problem: Row | None = None
    try:
        done = subprocess.run(
            [sys.executable, script, "--section", name, str(seconds)],
            env={**os.environ, **environment},
            capture_output=True,
            timeout=seconds + START,
            check=False,
        )
        out, errors = done.stdout, done.stderr
        if done.returncode:
            problem = Row("the rest of the section", _last_line(errors), verdict="error")
    except subprocess.TimeoutExpired as stopped:
        out, errors = stopped.stdout or b"", stopped.stderr or b""
        problem = Row("the rest of the section", f"not done within {seconds:.0f} s", verdict="skipped")
    if problem is not None:
        print(errors.decode(errors="replace")[-4000:], file=sys.stderr)
    lines = out.decode(errors="replace").splitlines()
    # The last line may have been cut off when the time was up.
    whole = [line for line in lines if line.startswith(MARK) and line.endswith("}")]
    rows = [Row(**json.loads(line.removeprefix(MARK))) for line in whole]
    return [*rows, *([problem] if problem else [])], time.monotonic() - begun


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its process ended without a word"


def table(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table."""
    cells = [("what", "value", "goal", "verdict"), ("---",) * 4]
    cells += [(row.what, row.value, row.goal, row.verdict) for row in rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells)
