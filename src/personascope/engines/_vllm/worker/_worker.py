"""The worker class that vLLM is started with (``--worker-cls``), with an instrumented model and the runtime.

Its methods are the targets of ``collective_rpc``.
"""

# pyright: reportMissingImports=false
# pyright: reportUntypedBaseClass=false
# vLLM is not installed where types are checked.
from __future__ import annotations

from functools import partial
from typing import Any

from vllm.distributed import get_pp_group
from vllm.model_executor.models.utils import PPMissingLayer
from vllm.platforms import current_platform

from personascope.engines._vllm._config import (
    PluginConfig,
    records_graphs,
    refuse_unsupported,
    tokenizer_of,
)
from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.engines._vllm.worker._layer_op import RUNTIMES, decoder_blocks, instrument
from personascope.engines._vllm.worker._runner_hooks import install
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.errors import EngineError
from personascope.interventions import compile_loops

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as _Worker
else:
    from vllm.v1.worker.gpu_worker import Worker as _Worker


class PersonascopeWorker(_Worker):
    """Worker of vLLM, with the configured decoder blocks of its model instrumented."""

    def load_model(self, *args: Any, **kwargs: Any) -> Any:
        """Load the model, then instrument it before it is compiled."""
        result = super().load_model(*args, **kwargs)
        self._personascope_instrument()
        return result

    def _personascope_instrument(self) -> None:
        config = PluginConfig.of(self.vllm_config)
        gpu = not current_platform.is_cpu()
        static = config.static(self.vllm_config, gpu=gpu)
        v2 = bool(getattr(self, "use_v2_model_runner", False))
        graphs = not static and records_graphs(self.vllm_config, gpu=gpu)
        refuse_unsupported(self.vllm_config, graphs=graphs, gpu=gpu, v2=v2)
        text = self.model_config.hf_text_config
        n_layers, d_model = int(text.num_hidden_layers), int(text.hidden_size)
        runner: Any = self.model_runner
        wanted = {
            layer: block
            for layer, block in decoder_blocks(runner.get_model(), n_layers).items()
            # A pipeline stage holds only a part of the blocks.
            if not isinstance(block, PPMissingLayer) and (config.layers is None or layer in config.layers)
        }
        if config.layers is not None and max(config.layers) >= n_layers:
            raise EngineError(
                f"layer {max(config.layers)} shall be instrumented, the model has {n_layers}",
                hint=f"layers are 0-based: 0 to {n_layers - 1}",
            )
        common: dict[str, Any] = {
            "d_model": d_model,
            "tokens": self.vllm_config.scheduler_config.max_num_batched_tokens,
            "device": self.device,
            "store": PlanStore(config.store),
            "layers": sorted(wanted),
            "stages": self.parallel_config.pipeline_parallel_size,
            "stage": get_pp_group().rank_in_group,
            "tokenizer": partial(tokenizer_of, self.model_config),
        }
        if static:
            from personascope.engines._vllm.worker._static import StaticRuntime

            runtime: Runtime = StaticRuntime(limits=config.limits, **common)
        else:
            runtime = Runtime(**common)
            if not gpu:
                # Compiling in the first request with a plan would delay all others of its step.
                compile_loops(self.model_config.dtype)
        RUNTIMES.append(runtime)
        for layer, block in wanted.items():
            instrument(block, len(RUNTIMES) - 1, layer)
        install(runner, runtime, v2=v2)
        self.personascope_runtime = runtime

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Sample, and tell the scheduler the step's projections, and which responses are over.

        With pipeline parallelism none are sent, because the scheduler hears only the last stage, which holds
        only its own layers.
        """
        output = super().sample_tokens(grammar_output)
        runtime = self.personascope_runtime
        found = runtime.end_step()
        target = getattr(output, "_model_runner_output", output)
        if target is not None:
            if found and runtime.stages == 1:
                target.personascope = found
            over = runtime.take_over()
            if over:
                target.personascope_over = over
        return output

    def personascope_fetch(self, keys: list[str]) -> bytes:
        """Return and forget results; see `Runtime.fetch`."""
        return self.personascope_runtime.fetch(keys)

    def personascope_drop(self, keys: list[str]) -> None:
        """Forget the results of requests; see `Runtime.drop`."""
        self.personascope_runtime.drop(keys)

    def personascope_stats(self) -> dict[str, int]:
        """Return the numbers of what the worker holds; see `Runtime.stats`."""
        return self.personascope_runtime.stats()
