"""Starting vLLM with the plugin inside."""

# pyright: reportMissingImports=false

from __future__ import annotations

import os
from typing import Any

import torch

from personascope.engines._vllm._config import PluginConfig
from personascope.engines._vllm._version import no_vllm
from personascope.interventions import keep_llvmlite_readable

# Compiling takes a minute and its cache cannot be loaded again on a CPU.
CPU_SETTINGS: dict[str, Any] = {"enforce_eager": True, "kv_cache_memory_bytes": 2 << 30, "block_size": 32}
"""Arguments of vLLM on a CPU, unless others are given; prefixes of 32 tokens are kept, not of 128."""


def plugin_options(config: PluginConfig, *, asynchronous: bool, draws: bool) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` that put the plugin in."""
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
    # The engine and the caller share one process, unless the user wants otherwise.
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
