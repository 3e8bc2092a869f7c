"""The examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cli_case import TESTS, save_model

EXAMPLES = TESTS.parent / "examples"


def test_map_and_project(tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "map_and_project.py", model, "quick", tmp_path / "run"],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["user", "assistant"] * 2
    assert all(re.fullmatch(r"\w+ +[+-]\d+\.\d\d +[+-]\d+\.\d\d", line) for line in lines), lines
