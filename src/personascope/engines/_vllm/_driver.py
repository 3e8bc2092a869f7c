"""Drive a vLLM of this process: add requests, step it, and fetch the plugin's readings."""

# pyright: reportMissingImports=false
from __future__ import annotations

import tempfile
from collections.abc import Container
from itertools import count
from typing import Any

from personascope.engines._vllm._completion import check_ran
from personascope.engines._vllm._submit import prefill_params
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.errors import EngineError

_ALIVE: set[Any] = set()
_CLOSED: list[tuple[Any, tempfile.TemporaryDirectory[str]]] = []


class Driver:
    """Driver of a ``vllm.LLM``, step by step.

    Attributes:
        llm: The ``vllm.LLM``, which is kept alive until it is closed.
        engine: Its ``LLMEngine``.
    """

    def __init__(self, llm: Any, scratch: tempfile.TemporaryDirectory[str]) -> None:
        """Wrap a vLLM, with the folder to delete when it is closed."""
        self.llm, self.engine = llm, llm.llm_engine
        self._scratch = scratch
        self._names = count(1)
        self._done: dict[str, Any] = {}
        _ALIVE.add(llm)

    def close(self) -> None:
        """Stop vLLM and free its memory, once all vLLMs of this process have been closed.

        They share vLLM's globals, which stopping one of them would destroy.
        """
        if self.llm not in _ALIVE:
            return
        _ALIVE.remove(self.llm)
        _CLOSED.append((self.llm, self._scratch))
        if not _ALIVE:
            while _CLOSED:
                llm, scratch = _CLOSED.pop()
                llm.llm_engine.engine_core.shutdown()
                scratch.cleanup()

    def name(self) -> str:
        """Return a new, unique name for a request."""
        return f"ps{next(self._names)}"

    def add(self, name: str, prompt: tuple[int, ...], params: Any, shown: str) -> None:
        """Submit a request to vLLM.

        Args:
            name: Name of the request inside vLLM.
            prompt: Token ids of the prompt.
            params: vLLM's sampling parameters.
            shown: Name of the request in errors.

        Raises:
            EngineError: If vLLM refuses the request.
        """
        from vllm.exceptions import VLLMClientError

        try:
            self.engine.add_request(name, {"prompt_token_ids": list(prompt)}, params)
        except (ValueError, VLLMClientError) as error:
            raise EngineError(
                f"vLLM refuses request {shown!r}: {str(error).splitlines()[0]}",
                hint="shorten the prompt or max_new_tokens, or start the engine with a larger max_model_len",
            ) from error

    def read(self, tokens: tuple[int, ...], spec: Spec) -> Reading:
        """Pass tokens through the model and return the reading that a spec asks for.

        Raises:
            EngineError: If vLLM or the scheduler refuses the request.
        """
        self.add(spec.key, tokens, prefill_params(spec), spec.key)
        (output,) = self.ended({spec.key})
        check_ran(spec.key, output)
        return self.fetch([spec.key])[spec.key]

    def ended(self, names: Container[str]) -> list[Any]:
        """Step until some of the requests have ended, and return their outputs; those of others are kept."""
        while not (found := [name for name in self._done if name in names]):
            for output in self.engine.step():
                if output.finished:
                    self._done[output.request_id] = output
        return [self._done.pop(name) for name in found]

    def fetch(self, keys: list[str]) -> dict[str, Reading]:
        """Fetch the readings of requests that have ended; the workers then forget them.

        Raises:
            EngineError: If the workers disagree, or have no such result.
        """
        if not keys:
            return {}
        return read_results(self.engine.collective_rpc("personascope_fetch", args=(keys,)))

    def abandon(self, running: dict[str, Spec | None]) -> None:
        """Abort requests that are no longer needed, and forget their results."""
        if not running:
            return
        self.engine.abort_request(list(running))
        for name in running:
            self._done.pop(name, None)
        keys = [spec.key for spec in running.values() if spec is not None]
        self.engine.collective_rpc("personascope_drop", args=(keys,))
