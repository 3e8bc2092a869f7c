"""Parts of the vLLM plugin that need no vLLM: specs, the plan store, limits, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from personascope.engines import Probe, load_engine
from personascope.engines._names import bulk_engine
from personascope.engines._vllm._config import PluginConfig, records_graphs, refuse_unsupported
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._spec import END, Spec, parse_spec
from personascope.engines._vllm.worker._runner_hooks import V1, check_hooks
from personascope.errors import EngineError, UsageError
from personascope.interventions import Cap, Plan, Steer

V = np.eye(8, dtype=np.float32)


def test_a_spec_survives_its_way():
    spec = Spec("k", "a" * 64, 5, (1, 4), ((5, 9), (12, 20)), True, (0, 3), True, "b" * 64, 2)
    assert parse_spec(spec.extra_args()) == spec
    assert parse_spec(json.loads(json.dumps(spec.extra_args()))) == spec
    assert parse_spec({"personascope": json.dumps(spec.extra_args()["personascope"])}) == spec
    assert Spec("k").extra_args() == {"personascope": {"key": "k"}}
    assert parse_spec(None) is parse_spec({"other": 1}) is None


@pytest.mark.parametrize(
    "bad",
    [
        3,
        "[",
        [],
        {},
        {"key": ""},
        {"key": "k", "plan": 3},
        {"key": "k", "layers": [True]},
        {"key": "k", "layers": []},
        {"key": "k", "spans": [[3, 3]]},
        {"key": "k", "spans": [[3]]},
        {"key": "k", "spans": [4]},
        {"key": "k", "response": -1},
        {"key": "k", "pool": "yes"},
        {"key": "k", "norms": True},
        {"key": "k", "strength": 2},
    ],
)
def test_a_malformed_spec_is_never_taken_for_none(bad):
    with pytest.raises(EngineError, match="personascope value of the request"):
        parse_spec({"personascope": bad})


def test_what_is_read_by_default_is_the_response():
    assert Spec("k").read(7) == ()
    assert Spec("k", pool=True).read(7) == ((7, END),)
    assert Spec("k", pool=True, response=3).read(7) == ((3, END),)
    assert Spec("k", probes="x", spans=((1, 2),)).read(7) == ((1, 2),)


def test_salts_differ_where_the_treatment_does():
    everywhere = {Spec("k", "p").salt(length, True) for length in (3, 9)}
    assert len(everywhere) == 1
    parts = {Spec("k", "p", turns=turns).salt(length, False) for length in (3, 9) for turns in ((), (1,))}
    assert len(parts) == 4
    assert Spec("k", "q").salt(3, True) not in everywhere


def test_the_plan_store_keeps_plans_and_probes_for_other_processes(tmp_path):
    plan = Plan((Steer(1, V[0], strength=2.0), Cap(2, V[1], floor=0.5)), name="p")
    probes = ProbeSet.of([Probe("a", 1, V[0]), Probe("b", 3, V[2])])
    one = PlanStore(tmp_path / "spool")
    digests = one.put(plan), one.put(probes)
    assert digests == (one.put(plan), one.put(probes))
    other = PlanStore(tmp_path / "spool")
    assert other.plan(digests[0]).digest == plan.digest
    found = other.probes(digests[1])
    assert (found.names, found.layers, found.digest) == (probes.names, probes.layers, probes.digest)
    assert np.array_equal(found.directions, probes.directions)


def test_what_is_not_in_the_plan_store_is_an_error(tmp_path):
    store = PlanStore(tmp_path / "spool")
    for ask in (store.plan, store.probes):
        for name in ("0" * 64, "../" * 3, "", "x" * 64):
            with pytest.raises(EngineError, match="there is no"):
                ask(name)
    digest = store.put(Plan((Steer(1, V[0], strength=2.0),)))
    with pytest.raises(EngineError, match="no probe set"):
        PlanStore(tmp_path / "spool").probes(digest)
    (tmp_path / "spool" / digest / "plan.json").write_text("{}")
    with pytest.raises(EngineError, match="holds no plan"):
        PlanStore(tmp_path / "spool").plan(digest)


def test_fixed_tables_refuse_what_they_cannot_hold():
    limits = Limits(ops=2, probes=1, columns=2)
    limits.check_plan(Plan((Cap(1, V[0], floor=0.0), Cap(1, V[1], floor=0.0))))
    with pytest.raises(EngineError, match="3 operations at layer 1; 2 fit"):
        limits.check_plan(Plan(tuple(Steer(1, V[at], strength=1.0) for at in range(3))))
    with pytest.raises(EngineError, match="not orthogonal"):
        limits.check_plan(Plan((Cap(1, V[0], floor=0.0), Cap(1, V[0] + V[1], floor=0.0))))
    with pytest.raises(EngineError, match="2 probes, 2 at one layer"):
        limits.check_probes(ProbeSet.of([Probe("a", 1, V[0]), Probe("b", 1, V[1])]))


def test_full_tables_refuse_before_a_request_runs():
    limits = Limits(plans=2, slots=3, probe_sets=1)
    live = [Spec("a", plan="p"), Spec("b", plan="q", pool=True), Spec("c", pool=True, probes="x")]
    limits.check_room(Spec("d", plan="p", pool=True, probes="x"), live)
    with pytest.raises(EngineError, match="2 plans are under way"):
        limits.check_room(Spec("d", plan="r"), live)
    with pytest.raises(EngineError, match="1 probe sets are under way"):
        limits.check_room(Spec("d", probes="y"), live)
    with pytest.raises(EngineError, match="3 pooled spans are under way"):
        limits.check_room(Spec("d", pool=True, spans=((0, 1), (2, 3))), live)
    with pytest.raises(EngineError, match="3 requests with a plan are under way"):
        limits.check_room(Spec("d", plan="p"), [*live, Spec("e", plan="q")])
    limits.check_room(Spec("d"), [*live, Spec("e", plan="q")])


def vllm_config(**changed):
    parts = {
        "additional_config": {"personascope": {"spool": "runs/spool"}},
        "speculative_config": None,
        "parallel_config": SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        "compilation_config": SimpleNamespace(
            pass_config=SimpleNamespace(), cudagraph_mode=SimpleNamespace(name="FULL")
        ),
        "model_config": SimpleNamespace(enforce_eager=False),
    }
    return SimpleNamespace(**(parts | changed))


def test_the_config_survives_its_way():
    config = PluginConfig("runs/spool", frozenset({3, 1}), "m", "r", "static", Limits(plans=3))
    assert PluginConfig.of(vllm_config(additional_config=config.additional_config())) == config
    assert PluginConfig.of(vllm_config()) == PluginConfig("runs/spool")


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {},
        {"personascope": {}},
        {"personascope": {"spool": 3}},
        {"personascope": {"spool": "s", "spol": 1}},
        {"personascope": {"spool": "s", "layers": []}},
        {"personascope": {"spool": "s", "layers": ["1"]}},
        {"personascope": {"spool": "s", "flavour": "fast"}},
        {"personascope": {"spool": "s", "limits": {"plan": 2}}},
    ],
)
def test_a_malformed_config_is_refused(bad):
    with pytest.raises(EngineError):
        PluginConfig.of(vllm_config(additional_config=bad))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"speculative_config": object()}, "speculative decoding"),
        (
            {
                "parallel_config": SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=2),
                "model_config": SimpleNamespace(enforce_eager=True),
            },
            "pipeline parallelism in eager mode on a CPU",
        ),
        (
            {
                "parallel_config": SimpleNamespace(
                    tensor_parallel_size=1, pipeline_parallel_size=1, enable_dbo=True
                )
            },
            "dual batch overlap",
        ),
        (
            {"compilation_config": SimpleNamespace(pass_config=SimpleNamespace(enable_sp=True))},
            "sequence parallelism",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(changed, says):
    refuse_unsupported(vllm_config(), graphs=False)
    with pytest.raises(EngineError, match=says):
        refuse_unsupported(vllm_config(**changed), graphs=False)


def test_a_pipeline_is_refused_only_where_it_was_not_tried():
    pipeline = vllm_config(parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=2))
    refuse_unsupported(pipeline, graphs=False)
    refuse_unsupported(pipeline, graphs=False, gpu=True)
    with pytest.raises(EngineError, match="pipeline parallelism under model runner V2"):
        refuse_unsupported(pipeline, graphs=False, gpu=True, v2=True)


def test_graphs_take_the_static_flavour_and_refuse_the_other():
    config = vllm_config()
    assert records_graphs(config, gpu=True)
    assert not records_graphs(config, gpu=False)
    assert PluginConfig.of(config).static(config, gpu=True)
    assert not PluginConfig.of(config).static(config, gpu=False)
    with pytest.raises(EngineError, match="CUDA graphs"):
        refuse_unsupported(config, graphs=True)


def test_another_vllm_is_refused_with_its_version_and_the_seam(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vllm", SimpleNamespace(__version__="9.9"))

    class Runner:
        def _prepare_inputs(self, scheduler_output, num_scheduled_tokens):
            raise NotImplementedError

        def _dummy_run(self):
            raise NotImplementedError

        def _on_request_state_removed(self, req_id, req_state):
            raise NotImplementedError

    check_hooks(Runner(), V1)
    del Runner._dummy_run
    with pytest.raises(EngineError, match=r"vLLM 9\.9 has no hook Runner\._dummy_run"):
        check_hooks(Runner(), V1)
    Runner._dummy_run = Runner._on_request_state_removed
    Runner._prepare_inputs = Runner._on_request_state_removed
    with pytest.raises(EngineError, match=r"_prepare_inputs\(scheduler_output, num_scheduled_tokens\); it"):
        check_hooks(Runner(), V1)


def test_engines_are_named(monkeypatch):
    monkeypatch.setenv("PERSONASCOPE_ENGINE", "transformers")
    assert bulk_engine() == "transformers"
    assert bulk_engine("vllm") == "vllm"
    monkeypatch.setenv("PERSONASCOPE_ENGINE", "jax")
    with pytest.raises(UsageError, match="no engine 'jax'"):
        bulk_engine()
    with pytest.raises(UsageError, match="a device by name"):
        load_engine("smollm2-135m", engine="vllm", device="cuda:1")
