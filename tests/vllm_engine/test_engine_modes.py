"""How vLLM may be started: several workers for one model, quantised weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from folder_case import folder_requests, saved
from safetensors.torch import load_file, save_file
from vllm_case import close, stock_vllm

from personascope.engines import Capture, Request, Sampling, load_engine
from personascope.interventions import Cap, Plan, Steer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two workers need a processor each")
@pytest.mark.parametrize("kind", ["tensor", "pipeline"])
def test_two_workers_of_one_model_equal_the_reference(kind, tmp_path):
    folder = saved("llama", tmp_path / "llama", num_key_value_heads=2)
    # Its workers are bound to processors when their parent starts: a process of its own.
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("parallel_case.py")), str(folder), kind],
        env={
            **os.environ,
            "VLLM_CPU_OMP_THREADS_BIND": "0|1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 workers, equal" in done.stdout


def _quantise(folder: Path) -> Path:
    """Turn the blocks' weights into int8, a scale a row, in the format of compressed-tensors (W8A8)."""
    path = folder / "model.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(path).items():
        if name.endswith("_proj.weight"):
            scale = weight.abs().amax(1, keepdim=True) / 127
            tensors[name] = (weight / scale).round().to(torch.int8)
            tensors[f"{name}_scale"] = scale
        else:
            tensors[name] = weight
    save_file(tensors, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**eight, "strategy": "channel", "dynamic": False},
                "input_activations": {**eight, "strategy": "token", "dynamic": True},
            }
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def quantised(tmp_path):
    """The engine and a stock vLLM on one quantised model."""
    folder = _quantise(saved("llama", tmp_path / "llama"))
    engine = load_engine(str(folder), engine="vllm", dtype="bfloat16", max_batch=8)
    try:
        stock = stock_vllm(
            str(folder), "bfloat16", max_num_seqs=8, max_model_len=512, kv_cache_memory_bytes=1 << 28
        )
        yield engine, stock
    finally:
        engine.close()


def test_quantised_weights_are_read_and_edited_as_they_run(quantised):
    from vllm import SamplingParams

    engine, stock = quantised
    blocks = stock.llm_engine.model_executor.driver_worker.worker.model_runner.get_model().model.layers
    # How vLLM stores the weights depends on the processor (some kernels pack them away); that it runs them
    # as quantised ones does not.
    assert all(block.mlp.down_proj.scheme is not None for block in blocks)
    assert stock.llm_engine.vllm_config.model_config.quantization == "compressed-tensors"
    seen: list[list[np.ndarray]] = [[] for _ in blocks]
    shifts: dict[int, Callable[[torch.Tensor], torch.Tensor]] = {}
    v = torch.nn.functional.one_hot(torch.tensor(3), 64).float()

    def hook(layer: int):
        def edit_and_read(_block, _inputs, output):
            hidden, residual = output
            if layer in shifts:
                stream = (hidden + residual).float()
                shift = shifts[layer](stream)[:, None]
                moved = shift != 0
                residual.copy_(torch.where(moved, (stream + shift * v).bfloat16(), residual))
                hidden.masked_fill_(moved, 0)
            seen[layer].append((hidden + residual).float().numpy())

        return edit_and_read

    for layer, block in enumerate(blocks):
        block.register_forward_hook(hook(layer))
    prompt = folder_requests(engine)[0].prompt
    ids = list(engine.chat.render(prompt, add_generation_prompt=True))
    cases = (
        (None, {}),
        (Plan((Steer(1, v.numpy(), strength=4.0),)), {1: lambda h: torch.full((len(h),), 4.0)}),
        (Plan((Cap(2, v.numpy(), floor=0.3),)), {2: lambda h: (0.3 - h @ v).clamp(min=0)}),
    )
    means: list[np.ndarray] = []
    for number, (plan, shift) in enumerate(cases):
        shifts.clear()
        shifts.update(shift)
        for rows in seen:
            rows.clear()
        # One request at a time: hooks know nothing of requests, and another batch rounds in another way.
        (output,) = stock.generate(
            [{"prompt_token_ids": ids, "cache_salt": f"{number}"}],
            SamplingParams(temperature=0, max_tokens=13, min_tokens=13, detokenize=False),
            use_tqdm=False,
        )
        sampling = Sampling(temperature=0, max_new_tokens=12, min_new_tokens=12)
        (got,) = engine.run([Request(f"{number}", prompt, sampling, capture=Capture(), plan=plan)])
        assert got.token_ids == tuple(output.outputs[0].token_ids[:12])
        for layer, rows in enumerate(seen):
            want = np.concatenate(rows)[len(ids) : len(ids) + 12].mean(0)
            assert close(got.pooled[layer], want, 1e-5), (number, layer)
        means.append(got.pooled)
    assert got.cap_stats is not None
    assert 0 < got.cap_stats.capped_tokens < got.cap_stats.tokens
    assert not close(means[1], means[0], 1e-2)
    assert not close(means[2], means[0], 1e-2)
