"""The check of a vLLM release from its source: what is missing is named, and the installed one has it all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import vllm_seams

HOOKS = "vllm/v1/worker/gpu_model_runner.py"


def test_what_a_release_lacks_is_named() -> None:
    seams = vllm_seams.check(
        {HOOKS: "class R:\n    def _dummy_run(self): ...\n    def _prepare_inputs(self, other): ..."}.get
    )
    problems = {seam.name: seam.problem for seam in seams if seam.file == HOOKS}
    assert problems["_dummy_run()"] == ""
    assert problems["_prepare_inputs(scheduler_output, num_scheduled_tokens)"] == "takes (other)"
    assert problems["_on_request_state_removed(req_id, req_state)"] == "is not there"
    assert all(seam.problem for seam in seams if seam.file != HOOKS)


def test_names_that_a_module_takes_over_with_a_star_are_found() -> None:
    files = {
        "vllm/distributed/__init__.py": "from .parallel_state import *",
        "vllm/distributed/parallel_state.py": "def get_pp_group(): ...",
    }
    found = {seam.name: seam.problem for seam in vllm_seams.check(files.get)}
    assert found["get_pp_group"] == ""


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here")
def test_the_installed_release_has_all() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    assert [
        seam for seam in vllm_seams.check(vllm_seams.reader(Path(spec.origin).parent)) if seam.problem
    ] == []
