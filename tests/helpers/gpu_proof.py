"""Runs sections of `benchmarks/gpu_transformers.py`, which is small on a machine without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def proof_rows(*sections: str) -> dict[str, list[str]]:
    """Run some sections, which must exit with 0; return the cells of their tables' rows, by the first."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu_transformers.py"), *sections],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "No GPU: small, in Triton's interpreter. This is no result to publish." in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {what: cells for what, *cells in rows}
