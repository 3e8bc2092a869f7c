"""The server's parts on their own: what is refused where the plugin is not in the engine, and the command."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from interop.map_case import save_map
from personascope.api import axis_probes
from personascope.engines import PlanStore
from personascope.errors import EngineError
from personascope.interventions import Plan, PlanModel, Steer
from tiny import save_tiny

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from personascope.engines._vllm.server._inflight import InFlightRequest, InFlightRequests
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
            model_config=SimpleNamespace(hf_text_config=SimpleNamespace(num_hidden_layers=4, hidden_size=24)),
            scheduler_config=SimpleNamespace(scheduler_cls=scheduler),
            compilation_config=SimpleNamespace(cudagraph_mode=None),
            parallel_config=SimpleNamespace(data_parallel_size=data, pipeline_parallel_size=pipeline),
        )

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


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scheduler": None}, "scheduler None"),
        ({"scheduler": "vllm.v1.core.sched.scheduler.Scheduler"}, "scheduler <class"),
        ({"worker": False}, "no attribute personascope_stats"),
        ({"data": 2}, "data parallelism"),
        ({"pipeline": 2}, "pipeline parallelism"),
        ({"colour": 1}, "unknown personascope field 'colour'"),
    ],
)
def test_without_the_whole_plugin_the_field_is_refused(tmp_path, options, says):
    web = client(Engine(tmp_path, **options))
    for field in ({"personascope": {"pool": True}}, {"vllm_xargs": {"personascope": '{"pool": true}'}}):
        for path, body in (
            ("/v1/chat/completions", CHAT),
            ("/v1/completions", {"model": "m", "prompt": "Hi"}),
        ):
            answer = web.post(path, json=body | field)
            assert answer.status_code == 501
            assert says in answer.json()["error"]["message"]
    assert web.get("/v1/personascope/plans").status_code == 501


def test_the_field_is_refused_where_another_route_would_not_hear_it():
    endpoint, app = PersonascopeEndpoint(), FastAPI()
    endpoint.attach_router(app)

    @app.post("/v1/responses")
    async def other(body: dict[str, Any]) -> dict[str, Any]:
        return body

    web = TestClient(app)
    plain = {"input": "tell me of personascope", "vllm_xargs": {"other": "1"}}
    assert web.post("/v1/responses", json=plain).json() == plain
    for field in ({"personascope": None}, {"vllm_xargs": {"personascope": "{}"}}):
        answer = web.post("/v1/responses", json=plain | field)
        assert answer.status_code == 400
        assert "/v1/responses would leave personascope unheard" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("api_key", "more", "status"),
    [(None, {}, 403), (None, {"allow_upload": True}, 200), (["k"], {}, 200), ([""], {}, 403)],
)
def test_uploads_need_a_key_or_leave(tmp_path, monkeypatch, api_key, more, status):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    web = client(Engine(tmp_path / "spool", **more), api_key)
    plan = Plan((Steer(2, np.ones(24, np.float32), strength=1.0),), name="small")
    plan.save(tmp_path / "plan")
    record = json.loads((tmp_path / "plan" / "plan.json").read_text())
    tensors = base64.b64encode((tmp_path / "plan" / "plan.safetensors").read_bytes()).decode()
    answer = web.post("/v1/personascope/plans", json={"plan": record, "tensors": tensors})
    assert answer.status_code == status
    found = web.get("/v1/personascope/plans").json()["plans"]
    assert [entry["digest"] for entry in found] == ([plan.digest] if status == 200 else [])
    if status == 200:
        assert PlanStore(tmp_path / "spool").plan(plan.digest).name == "small"


def test_projections_that_do_not_follow_on_fail_the_reply():
    flight = InFlightRequest.new(plan=None, probes=None, pool=True, samples=2, digest=None)
    flights = InFlightRequests()
    flights.add(flight)
    assert len(flights) == 2

    def output(**sent: Any) -> Any:
        params = {"personascope": {"key": flight.keys[1], **sent}, "other": 1}
        return SimpleNamespace(kv_transfer_params=params)

    first = output(parts=[(0, 0, [[1.0]])])
    flights.take([first])
    assert first.kv_transfer_params == {"other": 1}
    assert flight.rows == [[], [[1.0]]]
    assert flight.problem == ""
    flights.take([output(parts=[(0, 2, [[1.0]])])])
    reading: Any = SimpleNamespace(plan=None)
    with pytest.raises(EngineError, match="from token 2 on came after 1"):
        flight.totals(dict.fromkeys(flight.keys, reading))
    flights.remove(flight)
    assert len(flights) == 0


def serve(*args: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personascope", "serve", "--print-command", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def test_the_command_names_all_that_the_server_needs(tmp_path):
    from personascope.models import open_files

    save_tiny("llama", tmp_path / "model")
    files = open_files(str(tmp_path / "model"))
    model = PlanModel(files.model_id, files.revision, files.n_layers, files.d_model)
    plan = Plan((Steer(1, np.ones(files.d_model, np.float32), strength=1.0),), model)
    plan.save(tmp_path / "plan")
    other = plan.for_model(PlanModel("other", "0" * 40, files.n_layers, files.d_model))
    other.save(tmp_path / "other")
    args = (tmp_path / "model", "--spool", tmp_path / "spool")
    ran = serve(*args, "--plan", tmp_path / "plan", "--api-key", "a b", "--", "--max-model-len", 64)
    assert ran.returncode == 0, ran.stderr
    assert plan.digest in ran.stderr
    words = shlex.split(ran.stdout)
    assert words[:2] == ["VLLM_PLUGINS=personascope", "VLLM_API_KEY=a b"]
    assert words[2:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    given = dict(pairwise(words))
    assert given["--worker-cls"].endswith(".PersonascopeWorker")
    assert given["--scheduler-cls"].endswith("Scheduler")
    assert given["--served-model-name"] == files.model_id
    assert given["--max-model-len"] == "64"
    told = json.loads(given["--additional-config"])["personascope"]
    spool = str((tmp_path / "spool").resolve())
    assert told == {"spool": spool, "model_id": files.model_id, "revision": files.revision}
    assert PlanStore(spool).plan(plan.digest).digest == plan.digest
    ran = serve(*args, "--plan", tmp_path / "other")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "is of the model 'other'" in ran.stderr


def test_the_axis_of_a_map_becomes_a_probe(tmp_path):
    found = save_map(tmp_path / "run")
    files: Any = SimpleNamespace(model_id="moved", revision="abc", n_layers=4, d_model=24)
    probes = axis_probes(found, files)
    assert (probes.names, probes.layers) == (("axis",), (found.middle_layer,))
    assert np.array_equal(probes.directions[0], found.unit_axis(found.middle_layer))
    files.revision = "abd"
    with pytest.raises(EngineError, match="is of the model 'some/model'"):
        axis_probes(found, files)
