"""`benchmarks/gpu_transformers.py` on a machine without a GPU: its engine's section, and its exit code."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from helpers.gpu_proof import BENCHMARKS, proof_rows


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run the proof itself")
def test_the_engine_s_section_passes():
    rows = proof_rows("engine")
    for what in (
        "32 mixed requests, float32, cpu against cpu",
        "Llama, float32",
        "Llama, bfloat16",
        "Llama, float16",
        "a map from end to end, float32, cpu against cpu",
    ):
        assert rows[what][-1] == "passed", rows[what]


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed here")
def test_without_triton_its_sections_are_skipped_by_name():
    rows = proof_rows("kernel", "graphs")
    assert rows["the whole section"] == ["Triton is not installed", "", "skipped"]


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("not met", 0), ("failed", 1), ("error", 1)])
def test_a_check_that_fails_is_the_exit_code(monkeypatch, verdict, code):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu_transformers
    from proof import Row

    monkeypatch.setattr(gpu_transformers, "run_section", lambda *_: ([Row("x", "y", "z", verdict)], 1.0))
    assert gpu_transformers.prove(["engine"], small=True) == code
