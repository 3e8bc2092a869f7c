"""Hooks in vLLM's model runners, checked before anything runs.

vLLM has no public interface that tells which requests a step holds. The plugin wraps methods of the one
runner instance that the worker made, and changes no class. A vLLM with other methods is refused, with its
version and the method's name.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from personascope.engines._vllm._version import SUPPORTED
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.errors import EngineError

V1 = {
    "_prepare_inputs": ("scheduler_output", "num_scheduled_tokens"),
    "_dummy_run": (),
    "_on_request_state_removed": ("req_id", "req_state"),
}
V2 = {
    "add_requests": ("scheduler_output",),
    "prepare_inputs": (),
    "finish_requests": ("scheduler_output",),
    "execute_model": ("scheduler_output",),
}


def install(runner: Any, runtime: Runtime, *, v2: bool) -> None:
    """Hook the runner, so that the runtime is notified of every step and every end of a request.

    Raises:
        EngineError: If this vLLM's runner lacks a method that the plugin hooks.
    """
    check_hooks(runner, V2 if v2 else V1)
    (_install_v2 if v2 else _install_v1)(runner, runtime)


def check_hooks(runner: Any, hooks: Mapping[str, tuple[str, ...]]) -> None:
    """Raise an EngineError unless the runner has the methods, with the expected leading parameters."""
    import vllm

    for name, parameters in hooks.items():
        method = getattr(runner, name, None)
        found = None if method is None else tuple(inspect.signature(method).parameters)
        if found is None or found[: len(parameters)] != parameters:
            raise EngineError(
                f"vLLM {vllm.__version__} has no hook {type(runner).__name__}.{name}({', '.join(parameters)})"
                + ("" if found is None else f"; it takes ({', '.join(found)})"),
                hint=f"install {SUPPORTED}, or a personascope that knows this version",
            )


def _extra(params: Any) -> Mapping[str, Any] | None:
    return None if params is None else params.extra_args


def _install_v1(runner: Any, runtime: Runtime) -> None:
    prepare, dummy, removed = runner._prepare_inputs, runner._dummy_run, runner._on_request_state_removed

    def lookup(name: str) -> tuple[int, Mapping[str, Any] | None]:
        request = runner.requests[name]
        return request.num_prompt_tokens, _extra(request.sampling_params)

    def prepare_inputs(scheduler_output: Any, num_scheduled_tokens: Any) -> Any:
        result = prepare(scheduler_output, num_scheduled_tokens)
        # Only after the call is the order of the batch the one of this step.
        batch = runner.input_batch
        count = batch.num_reqs
        runtime.begin_step(
            batch.req_ids[:count],
            runner.query_start_loc.np,
            batch.num_computed_tokens_cpu[:count],
            lookup,
            # Under asynchronous scheduling only the device has the tokens that were drawn last.
            lambda: runner.input_ids.gpu[: int(runner.query_start_loc.np[count])].cpu().numpy(),
        )
        return result

    def dummy_run(*args: Any, **kwargs: Any) -> Any:
        runtime.idle()
        return dummy(*args, **kwargs)

    def request_removed(req_id: str, req_state: Any) -> Any:
        runtime.finish(req_id)
        return removed(req_id, req_state)

    runner._prepare_inputs = prepare_inputs
    runner._dummy_run = dummy_run
    runner._on_request_state_removed = request_removed


def _install_v2(runner: Any, runtime: Runtime) -> None:
    add, prepare, finish, execute = (
        runner.add_requests,
        runner.prepare_inputs,
        runner.finish_requests,
        runner.execute_model,
    )
    known: dict[str, tuple[int, Mapping[str, Any] | None]] = {}

    def add_requests(scheduler_output: Any) -> Any:
        for new in scheduler_output.scheduled_new_reqs:
            # A request that resumes after a preemption is new to this runner, but keeps its record.
            known.setdefault(new.req_id, (len(new.prompt_token_ids), _extra(new.sampling_params)))
        return add(scheduler_output)

    def prepare_inputs(*args: Any, **kwargs: Any) -> Any:
        batch = prepare(*args, **kwargs)
        runtime.begin_step(
            batch.req_ids,
            batch.query_start_loc_np,
            batch.num_computed_tokens_np,
            known.__getitem__,
            lambda: batch.input_ids[: int(batch.query_start_loc_np[len(batch.req_ids)])].cpu().numpy(),
        )
        return batch

    def finish_requests(scheduler_output: Any) -> Any:
        for name in scheduler_output.finished_req_ids:
            runtime.finish(name)
            known.pop(name, None)
        return finish(scheduler_output)

    def execute_model(scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        dummy = kwargs.get("dummy_run", args[1] if len(args) > 1 else False)
        if dummy:
            runtime.idle()
        return execute(scheduler_output, *args, **kwargs)

    runner.add_requests = add_requests
    runner.prepare_inputs = prepare_inputs
    runner.finish_requests = finish_requests
    runner.execute_model = execute_model
