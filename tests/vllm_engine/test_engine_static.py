"""The flavour for CUDA graphs against the other one: its Triton kernel in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here; make test has an environment with it")


@pytest.mark.parametrize("kind", ["pair", "single"])
def test_both_flavours_do_the_same(kind):
    case = Path(__file__).with_name("static_case.py")
    done = subprocess.run(
        [sys.executable, str(case), kind],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["requests"] == 24
    assert report["untouched"]
    assert report["stream"] < 2e-5
    assert report["sums"] < 2e-4
    assert report["projections"] < 2e-5
