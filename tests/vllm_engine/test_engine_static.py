"""The flavour for CUDA graphs: its kernel in Triton's interpreter against the other flavour, and compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


def test_both_flavours_do_the_same_on_parts_and_behind_gates():
    case = Path(__file__).with_name("static_course_case.py")
    done = subprocess.run(
        [sys.executable, str(case)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["requests"] == 12 and report["gates"] + report["stops"] >= 2
    assert report["stream"] < 2e-5


class Recorder:
    """Stands for a kernel, and keeps what it is launched with instead of launching it."""

    def __init__(self) -> None:
        self.launches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid):
        return lambda *args, **options: self.launches.append((args, options))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_compiles_for_gpus_that_are_not_here(monkeypatch, tmp_path, dtype, capability):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from personascope.engines._vllm.request._limits import Limits
    from personascope.engines._vllm.request._plan_store import PlanStore
    from personascope.engines._vllm.worker import _triton
    from personascope.engines._vllm.worker._static import StaticRuntime

    kernel: Any = _triton._layer
    if not isinstance(kernel, triton.runtime.JITFunction):
        pytest.skip("TRITON_INTERPRET is set, so that nothing is compiled")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    recorder = Recorder()
    monkeypatch.setattr(_triton, "_layer", recorder)
    d_model = 4096
    runtime = StaticRuntime(
        limits=Limits(slots=4),
        d_model=d_model,
        tokens=4,
        device=torch.device("cpu"),
        store=PlanStore(tmp_path),
        layers=(0,),
    )
    with torch.inference_mode():
        runtime.begin_step(["r0"], np.arange(2), np.zeros(1, np.int64), lambda _: (1, None))
        runtime.layer(0, torch.zeros(1, d_model, dtype=dtype), torch.zeros(1, d_model, dtype=dtype))
    (args, options), *_ = recorder.launches
    warps = options.pop("num_warps")
    kinds = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32"}
    types = [kinds[arg.dtype] if isinstance(arg, torch.Tensor) else "i32" for arg in args]
    signature = dict(zip(kernel.arg_names, types, strict=False)) | dict.fromkeys(options, "constexpr")
    assert list(signature) == kernel.arg_names
    source = ASTSource(kernel, signature=signature, constexprs=options)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    assert f".target sm_{capability}" in made.asm["ptx"]
    assert len(made.asm["cubin"]) > 10_000
