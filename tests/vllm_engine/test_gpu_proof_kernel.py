"""The sections of `benchmarks/gpu_transformers.py` that need Triton, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from helpers.gpu_proof import proof_rows

pytest.importorskip("triton", reason="Triton is not installed here; make test has an environment with it")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run the proof itself")
def test_the_kernel_s_sections_pass():
    rows = proof_rows("kernel", "graphs")
    passed = [what for what, cells in rows.items() if cells[-1] == "passed"]
    assert [what.split(",")[1].strip() for what in passed[:3]] == ["float32", "bfloat16", "float16"]
    assert [what.split(",")[0] for what in passed[3:]] == [
        "idle kernel",
        "caps in replays of a graph that was recorded idle",
        "means that 3 replays pooled",
    ]
