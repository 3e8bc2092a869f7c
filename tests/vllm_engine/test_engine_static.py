"""The flavour for CUDA graphs against the other one: its Triton kernel in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed here; make test has an environment with it")

KINDS = ("pair", "single")


@pytest.fixture(scope="module")
def running():
    """One process for each kind, side by side: the interpreter is slow, and takes one core."""
    case = Path(__file__).with_name("static_case.py")
    begun = {
        kind: subprocess.Popen(
            [sys.executable, str(case), kind],
            env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in KINDS
    }
    yield begun
    for process in begun.values():
        process.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_both_flavours_do_the_same(running, kind):
    out, errors = running[kind].communicate(timeout=300)
    assert running[kind].returncode == 0, errors[-3000:]
    report = json.loads(out.splitlines()[-1])
    assert report["requests"] == 24
    assert report["untouched"]
    assert report["stream"] < 2e-5
    assert report["sums"] < 2e-4
    assert report["projections"] < 2e-5
