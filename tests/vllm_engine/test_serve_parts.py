"""The server's parts on their own: what is refused where the plugin is not in the engine, and the command."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from interop.map_case import save_map
from personascope.api._serve import axis_probes
from personascope.chat import ChatOptions
from personascope.engines import PlanStore
from personascope.errors import EngineError, UsageError
from personascope.interventions import Plan, PlanModel, Steer
from tiny import save_tiny, tiny_tokenizer

pytest.importorskip("vllm", reason="vLLM is not installed here; make test has an environment with it")

from fake_engine import CHAT, Engine, client

from personascope.engines._vllm.server._command import serve_command
from personascope.engines._vllm.server._inflight import InFlightRequest, InFlightRequests


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
    assert words[:2] == [
        "VLLM_PLUGINS=personascope",
        "VLLM_API_KEY=${VLLM_API_KEY:?the key that clients must send}",
    ]
    assert "a b" not in ran.stdout + ran.stderr
    server = json.loads(words[2].removeprefix("PERSONASCOPE_SERVER="))
    page = {"reader": "personascope.live:open_reader"}
    assert server == {"default_plan": plan.digest, "names": {"plan": plan.digest}, **page}
    assert words[3:6] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    given = dict(pairwise(words))
    assert given["--worker-cls"].endswith(".PersonascopeWorker")
    assert given["--scheduler-cls"].endswith("Scheduler")
    assert given["--served-model-name"] == files.model_id
    assert given["--max-model-len"] == "64" and given["--shutdown-timeout"] == "30"
    assert given["--middleware"].endswith(".ServerGuard")
    told = json.loads(given["--additional-config"])["personascope"]
    spool = str((tmp_path / "spool").resolve())
    assert told == {"spool": spool, "model_id": files.model_id, "revision": files.revision}
    assert PlanStore(spool).plan(plan.digest).digest == plan.digest
    ran = serve(*args, "--plan", tmp_path / "other")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "is of the model 'other'" in ran.stderr


def test_the_axis_of_a_map_becomes_a_probe(tmp_path):
    found = save_map(tmp_path / "run")
    chat = SimpleNamespace(digest=found.model.chat_digest)
    files: Any = SimpleNamespace(model_id="moved", revision="abc", n_layers=4, d_model=24, chat=chat)
    probes = axis_probes(found, files)
    assert (probes.names, probes.layers) == (("axis",), (found.middle_layer,))
    assert np.array_equal(probes.directions[0], found.unit_axis(found.middle_layer))
    chat.digest = "another template"
    with pytest.raises(EngineError, match="with the chat template"):
        axis_probes(found, files)
    files.revision = "abd"
    with pytest.raises(EngineError, match="is of the model 'some/model'"):
        axis_probes(found, files)


def test_a_key_behind_the_dashes_is_taken_from_the_command_line():
    from personascope.engines._vllm.server._command import _take

    assert _take(["--seed", "1", "--api-key", "k1", "-tp", "2"], "--api-key") == (
        ["--seed", "1", "-tp", "2"],
        ["k1"],
    )
    assert _take(["--api_key=k1", "--seed", "1"], "--api-key") == (["--seed", "1"], ["k1"])
    assert _take(["--api-key", "k1", "k2"], "--api-key") == ([], ["k1", "k2"])


def thinking_files(folder: Path) -> Any:
    from personascope.models import open_files

    save_tiny("llama", folder)
    tiny_tokenizer("qwen3").save_pretrained(folder)
    return open_files(str(folder))


def test_the_server_thinks_where_it_is_told_to(tmp_path):
    thinking_files(tmp_path / "model")
    args = (tmp_path / "model", "--plan-store", tmp_path / "store")
    for options, told in (((), False), (("--thinking", "on"), True)):
        ran = serve(*args, *options)
        assert ran.returncode == 0, ran.stderr
        given = dict(pairwise(shlex.split(ran.stdout)))
        assert json.loads(given["--default-chat-template-kwargs"]) == {"enable_thinking": told}
    # A map that was made without thinking is not served by a model that thinks.
    found = save_map(tmp_path / "run")
    files = thinking_files(tmp_path / "again")
    mapped = replace(found.model, chat_digest=files.chat.digest)
    thinks = files.chat.with_options(ChatOptions(thinking=True))
    named: Any = SimpleNamespace(model_id="moved", revision="abc", n_layers=4, d_model=24, chat=thinks)
    of_map: Any = SimpleNamespace(model=mapped, folder="run", middle_layer=1, unit_axis=found.unit_axis)
    with pytest.raises(EngineError, match="with the chat template"):
        axis_probes(of_map, named)
    named.chat = files.chat.with_options(ChatOptions(thinking=False))
    assert axis_probes(of_map, named).names == ("axis",)
    ran = serve(*args, "--template-arg", "no_such=1")
    assert (ran.returncode, ran.stdout) == (1, "") and "no_such" in ran.stderr


def test_the_server_renders_with_the_engines_options(tmp_path):
    files = thinking_files(tmp_path / "model")
    assert files.chat.template_options == {"enable_thinking": False}

    def command(*extra: str, same_chat: bool = False) -> dict[str, str]:
        made = serve_command(files, store=str(tmp_path), dtype="float32", same_chat=same_chat, extra=extra)
        assert sum(word == "--default-chat-template-kwargs" for word in made.argv) == 1
        return dict(pairwise(made.argv))

    name = "--default-chat-template-kwargs"
    assert json.loads(command()[name]) == {"enable_thinking": False}
    assert json.loads(command(name, '{"other": 1}')[name]) == {"enable_thinking": False, "other": 1}
    # Without a map it is the operator's choice.
    assert json.loads(command(f'{name}={{"enable_thinking": true}}')[name]) == {"enable_thinking": True}
    assert json.loads(command(name, '{"enable_thinking": false}', same_chat=True)[name]) == {
        "enable_thinking": False
    }
    for extra in (
        (name, '{"enable_thinking": true}'),
        (f'{name.replace("-", "_").replace("__", "--")}={{"enable_thinking": true}}',),
        (name, '{"other": 1}'),
        ("--chat-template", "x.jinja"),
    ):
        with pytest.raises(UsageError, match="renders conversations otherwise than the map"):
            command(*extra, same_chat=True)
    for extra in ((name, "{"), (name, "[1]"), (f"{name}.enable_thinking", "true")):
        with pytest.raises(UsageError, match="default-chat-template-kwargs"):
            command(*extra)


def test_several_keys_are_refused(tmp_path):
    files = thinking_files(tmp_path / "model")
    with pytest.raises(UsageError, match="2 API keys"):
        serve_command(files, store=str(tmp_path), dtype="float32", extra=["--api-key", "a", "b"])
    made = serve_command(files, store=str(tmp_path), dtype="float32", extra=["--api-key", "secret-1"])
    assert made.environment["VLLM_API_KEY"] == "secret-1"
    assert "secret-1" not in str(made) and "secret-1" not in made.argv
