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


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import gpu_transformers

    return gpu_transformers


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("not met", 0), ("failed", 1), ("error", 1)])
def test_a_check_that_fails_is_the_exit_code(script, monkeypatch, verdict, code):
    row = script.Row("x", "y", "z", verdict)
    monkeypatch.setattr(script, "run_section", lambda *_: ([row], 1.0))
    assert script.prove(["engine"], small=True) == code


def test_only_a_whole_run_on_a_gpu_writes_the_page(script, monkeypatch):
    from proof import START

    pages: list[str] = []
    given: list[tuple[str, float, float]] = []

    def run_section(_script, name, seconds, left, environment):
        given.append((name, seconds, left))
        assert "TRITON_INTERPRET" not in environment
        return [script.Row(name, "y", "z", "met")], 1.0

    monkeypatch.setattr(script, "run_section", run_section)
    monkeypatch.setattr(script, "write_page", lambda _script, _title, body: pages.append(body))
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda _name: True)
    assert script.prove(["engine"], small=False) == 0
    assert pages == []
    assert script.prove(list(script.SECTIONS), small=False) == 0
    assert [name for name, _, _ in given[1:]] == ["kernel", "graphs", "engine"]
    # All of them fit, however slow each is.
    assert sum(seconds + START for _, seconds, _ in given[1:]) <= script.TOTAL
    (page,) = pages
    assert page.startswith("Rows: 3 met. ")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {section.title}" for section in script.SECTIONS.values()
    ]
