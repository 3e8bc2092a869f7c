"""However vLLM cuts requests into steps and layers into workers: the results are those of one step of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from personascope.engines import Probe
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.interventions import Cap, Plan, Steer

D, LAYERS, TOKENS = 16, 3, 96


@dataclass(eq=False)
class Case:
    """One request, with the residual stream that its tokens have, [layers, tokens, d]."""

    name: str
    spec: Spec | None
    prompt: int
    stream: torch.Tensor
    at: int = 0


def drawn(rng: np.random.Generator, number: int, digests: list[str], probes: str) -> Case:
    prompt, response = int(rng.integers(1, 12)), int(rng.integers(2, 30))
    total = prompt + response
    spans = None
    if rng.random() < 0.5:
        ends = np.sort(rng.choice(total + 8, 4, replace=False))
        # In the prompt, in the response, across both, or past the end; the third overlaps the others.
        spans = ((int(ends[0]), int(ends[1])), (int(ends[2]), int(ends[3])), (int(ends[0]), int(ends[2])))
    kind = int(rng.integers(4))
    spec = None
    if kind:
        spec = Spec(
            f"k{number}",
            plan=str(rng.choice(digests)) if rng.random() < 0.8 else None,
            response=int(rng.integers(1, total)) if rng.random() < 0.3 else None,
            turns=(0, int(rng.integers(1, total))),
            spans=spans,
            pool=kind != 2,
            norms=kind == 3,
            probes=probes if kind > 1 else None,
        )
    stream = torch.from_numpy(rng.standard_normal((LAYERS, total, D)).astype(np.float32))
    return Case(f"r{number}", spec, prompt, stream)


def step(runtimes: list[Runtime], cases: list[Case], lengths: list[int]) -> None:
    known = {case.name: case for case in cases}

    def lookup(name: str):
        case = known[name]
        return case.prompt, None if case.spec is None else case.spec.extra_args()

    for runtime in runtimes:
        starts = np.concatenate([[0], np.cumsum(lengths)])
        computed = np.array([case.at for case in cases])
        runtime.begin_step([case.name for case in cases], starts, computed, lookup)
        # vLLM writes the next step into the same arrays.
        starts[:], computed[:] = -1, -1
        # vLLM's forward passes run in inference mode.
        with torch.inference_mode():
            for layer in sorted(runtime.instrumented):
                parts = [c.stream[layer, c.at : c.at + n] for c, n in zip(cases, lengths, strict=True)]
                runtime.layer(layer, torch.cat(parts), None)
        runtime.end_step()
    for case, length in zip(cases, lengths, strict=True):
        case.at += length


def fetched(runtimes: list[Runtime], case: Case) -> Reading:
    for runtime in runtimes:
        runtime.finish(case.name)
    return read_results([runtime.fetch([case.spec.key]) for runtime in runtimes])[case.spec.key]


def cut(
    runtimes: list[Runtime], cases: list[Case], rng: np.random.Generator
) -> Iterator[tuple[Case, Reading]]:
    """Run the cases a few at a time, in pieces, with preemptions, and yield each with its results."""
    waiting, running = list(cases), []
    while waiting or running:
        if waiting and (not running or (len(running) < 4 and rng.random() < 0.2)):
            running.append(waiting.pop(0))
        if rng.random() < 0.05:
            # Preempted: all its tokens pass again, and count once.
            running[int(rng.integers(len(running)))].at = 0
        if rng.random() < 0.05:
            rng.shuffle(running)
        # Now and then not all of them are in the step.
        here = running if rng.random() < 0.95 else running[:1]
        lengths = [
            1 if c.at >= c.prompt or rng.random() < 0.2 else int(rng.integers(1, c.prompt - c.at + 1))
            for c in here
        ]
        step(runtimes, here, lengths)
        for case in [case for case in here if case.at == case.stream.shape[1]]:
            running.remove(case)
            if case.spec is not None:
                yield case, fetched(runtimes, case)
            else:
                for runtime in runtimes:
                    runtime.finish(case.name)


@pytest.mark.parametrize("stages", [[[0, 1, 2]], [[0], [1, 2]], [[0, 1], [0, 1], [], [], [2], [2]]])
@pytest.mark.parametrize("seed", range(15))
def test_steps_of_any_kind_give_what_one_step_gives(seed, stages, tmp_path):
    """Each list of layers is a worker; equal ones share a stage, as under tensor parallelism."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((4, D)).astype(np.float32)
    plans = [
        Plan((Cap(0, v[0], floor=0.3), Cap(2, v[1], ceiling=0.1))),
        Plan((Cap(1, v[2], floor=0.2, tokens="response"), Steer(1, v[0], strength=0.5, tokens="prompt"))),
        Plan((Steer(0, v[3], strength=0.1, tokens="turn:1"),)),
        Plan((Cap(1, v[0], floor=0.4), Cap(1, v[1], floor=0.4, tokens="turn:1"))),
    ]
    store = PlanStore(tmp_path)
    digests = [store.put(plan) for plan in plans]
    probes = store.put(ProbeSet.of([Probe("a", 0, v[0]), Probe("b", 2, v[1])]))
    common = {"d_model": D, "tokens": TOKENS, "device": torch.device("cpu"), "store": store}
    distinct = [layers for n, layers in enumerate(stages) if layers not in stages[:n]]
    runtimes = [
        Runtime(**common, layers=layers, stages=len(distinct), stage=distinct.index(layers))
        for layers in stages
    ]
    cases = [drawn(rng, number, digests, probes) for number in range(12)]
    seen = 0
    for case, found in cut(runtimes, cases, rng):
        seen += 1
        alone = Case(case.name, case.spec, case.prompt, case.stream)
        lone = Runtime(**common, layers=range(LAYERS))
        step([lone], [alone], [case.stream.shape[1]])
        want = fetched([lone], case)
        assert found.layers == want.layers
        assert found.counts == want.counts
        assert (found.cap_counts.tokens, found.cap_counts.capped) == (
            want.cap_counts.tokens,
            want.cap_counts.capped,
        )
        for layer in range(LAYERS):
            assert found.cap_counts.fired.get(layer, 0) == want.cap_counts.fired.get(layer, 0)
            assert found.cap_counts.moved.get(layer, 0) == pytest.approx(
                want.cap_counts.moved.get(layer, 0), rel=1e-5
            )
        assert found.cap_counts.greatest == pytest.approx(want.cap_counts.greatest, rel=1e-5)
        for a, b in ((found.sums, want.sums), (found.norms, want.norms)):
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        for a, b in zip(found.projections, want.projections, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert seen == sum(case.spec is not None for case in cases)
    assert all(runtime.stats()["requests"] == 0 for runtime in runtimes)


@pytest.mark.parametrize("seed", range(4))
def test_tokens_are_projected_before_the_plan_too(seed, tmp_path):
    """After is what another request under the plan has, before what a plain one has in the same steps."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((3, D)).astype(np.float32)
    store = PlanStore(tmp_path)
    plan = store.put(Plan((Steer(0, v[0], strength=0.5), Cap(2, v[1], floor=0.8, tokens="response"))))
    probes = store.put(ProbeSet.of([Probe("a", 0, v[0]), Probe("b", 2, v[1]), Probe("c", 1, v[2])]))
    stream = torch.from_numpy(rng.standard_normal((LAYERS, 20, D)).astype(np.float32))

    def case(name: str, digest: str | None, *, before: bool) -> Case:
        spec = Spec(name, plan=digest, probes=probes, before=before)
        return Case(name, spec, 6, stream.clone())

    asking, acted = case("asking", plan, before=True), case("acted", plan, before=False)
    plain, idle = case("plain", None, before=False), case("idle", None, before=True)
    cases = [asking, acted, plain, idle]
    common = {"d_model": D, "tokens": TOKENS, "device": torch.device("cpu"), "store": store}
    runtime = Runtime(**common, layers=range(LAYERS))
    rows: dict[str, list[list[float]]] = {one.name: [] for one in cases}
    for length in (6, 1, 1, 3, 1, 1, 1, 6):
        ids = [one.name for one in cases]
        lookup = {one.name: (one.prompt, one.spec.extra_args()) for one in cases}.__getitem__
        starts = np.arange(0, length * len(cases) + 1, length)
        runtime.begin_step(ids, starts, np.array([one.at for one in cases]), lookup)
        with torch.inference_mode():
            for layer in range(LAYERS):
                parts = [one.stream[layer, one.at : one.at + length] for one in cases]
                runtime.layer(layer, torch.cat(parts), None)
        for key, found in runtime.end_step().items():
            for _, first, new in found:
                assert first == len(rows[key])
                rows[key] += new
        for one in cases:
            one.at += length
    got = np.array(rows["asking"])
    assert got.shape == (14, 6) and np.array(rows["idle"]).shape == (14, 3)
    np.testing.assert_allclose(got[:, :3], rows["acted"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[:, 3:], rows["plain"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rows["idle"], rows["plain"], rtol=1e-5, atol=1e-5)
    assert (np.abs(got[:, 0] - got[:, 3]) > 0.1).all() and (got[:, 1] > got[:, 4] + 1e-3).any()
    np.testing.assert_allclose(got[:, 2], got[:, 5], rtol=1e-5, atol=1e-5)
    assert fetched([runtime], asking).projections[0].shape == (14, 3)
