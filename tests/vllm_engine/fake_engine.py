"""An API server whose engine is made up: what the plugin asks of vLLM before a request runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from personascope.engines._vllm.server._routes import PersonascopeEndpoint

OURS = "personascope.engines._vllm._scheduler.PersonascopeScheduler"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


class Engine:
    """What the plugin asks of vLLM's engine before a request runs."""

    def __init__(
        self,
        folder: Path,
        *,
        scheduler: Any = OURS,
        worker: bool = True,
        data: int = 1,
        pipeline: int = 1,
        **more: Any,
    ):
        self.worker = worker
        self.output_processor = SimpleNamespace(process_outputs=lambda outputs: outputs)
        self.vllm_config = SimpleNamespace(
            additional_config={"personascope": {"spool": str(folder), **more}},
            model_config=SimpleNamespace(
                dtype="torch.bfloat16",
                hf_text_config=SimpleNamespace(num_hidden_layers=4, hidden_size=24),
            ),
            scheduler_config=SimpleNamespace(scheduler_cls=scheduler),
            compilation_config=SimpleNamespace(cudagraph_mode=None),
            parallel_config=SimpleNamespace(data_parallel_size=data, pipeline_parallel_size=pipeline),
        )

    def shutdown(self, timeout: float | None = None) -> None:
        self.ended = timeout

    async def collective_rpc(self, method: str, args: Any = ()) -> list[Any]:
        del args
        if not self.worker:
            raise Exception(f"the worker has no attribute {method}")
        return [{"requests": 0}]


async def served_by(engine: Any, api_key: list[str] | None = None) -> TestClient:
    endpoint = PersonascopeEndpoint()
    app = FastAPI()
    endpoint.attach_router(app)
    await endpoint.init_state(engine, app.state, SimpleNamespace(api_key=api_key))
    return TestClient(app)


def client(engine: Any, api_key: list[str] | None = None) -> TestClient:
    return asyncio.run(served_by(engine, api_key))
