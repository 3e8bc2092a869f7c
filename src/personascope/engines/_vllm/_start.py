"""Start vLLM with the plugin inside."""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any

import torch

from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._version import no_vllm
from personascope.interventions import keep_llvmlite_readable

# On a CPU compiling takes a minute, and its cache cannot be loaded again.
CPU_SETTINGS: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 2 << 30, "block_size": 32}
"""Default arguments of vLLM on a CPU; the prefix cache has blocks of 32 tokens instead of 128."""


def plugin_options(config: PluginConfig, *, asynchronous: bool, draws: bool) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` that install the plugin."""
    scheduler = "PersonascopeAsyncScheduler" if asynchronous else "PersonascopeScheduler"
    options: dict[str, Any] = {
        "worker_cls": "personascope.engines._vllm.worker._worker.PersonascopeWorker",
        "scheduler_cls": f"personascope.engines._vllm._scheduler.{scheduler}",
        "additional_config": config.additional_config(),
    }
    if draws:
        options["logits_processors"] = ["personascope.engines._vllm._sampler:Draw"]
    return options


def import_vllm() -> Any:
    # The engine runs in the caller's process, unless the user sets otherwise.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    threads = torch.get_num_threads()
    try:
        from vllm import LLM
    except ImportError as error:
        raise no_vllm(error) from error
    torch.set_num_threads(threads)
    keep_llvmlite_readable()
    return LLM
