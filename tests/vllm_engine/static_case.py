"""Both flavours of the runtime through the same steps, in Triton's interpreter; prints what differs most.

A process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import json
import sys
import tempfile

import numpy as np
import torch

from personascope.engines import Probe
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.engines._vllm.worker._static import StaticRuntime
from personascope.interventions import Ablate, Cap, Plan, Steer

D, LAYERS, TOKENS = 48, 3, 64


@torch.inference_mode()  # as vLLM's forward passes
def main(pair: bool) -> None:
    rng = np.random.default_rng(0)
    v = rng.standard_normal((4, D)).astype(np.float32)
    v[3] -= (v[3] @ v[2]) / (v[2] @ v[2]) * v[2]
    plans = [
        Plan((Cap(0, v[0], floor=0.5), Cap(1, v[0], floor=0.2), Cap(2, v[1], ceiling=-0.1))),
        Plan(
            (Steer(1, v[1], strength=3.0, tokens="response"), Steer(1, v[2], strength=-2.0, tokens="prompt"))
        ),
        Plan((Ablate(0, v[3], tokens="turn:1"), Cap(2, v[3], floor=0.1, ceiling=0.2))),
        Plan((Cap(1, v[2], floor=0.4), Cap(1, v[3], floor=0.3))),
    ]
    probes = [Probe("a", 0, v[0]), Probe("b", 2, v[1]), Probe("c", 2, v[2])]
    with tempfile.TemporaryDirectory() as folder:
        store = PlanStore(folder)
        digests = [store.put(plan) for plan in plans]
        asked = store.put(ProbeSet.of(probes))
        common = {
            "d_model": D,
            "tokens": TOKENS,
            "device": torch.device("cpu"),
            "store": store,
            "layers": range(LAYERS),
        }
        limits = Limits(plans=3, slots=40)
        both = Runtime(**common), StaticRuntime(limits=limits, **common)
        # The same once more as a pipeline of two stages.
        stages = [
            StaticRuntime(limits=limits, **(common | {"layers": layers, "stages": 2, "stage": stage}))
            for stage, layers in enumerate(([0], [1, 2]))
        ]
        report = {"stream": 0.0, "untouched": True, "sums": 0.0, "projections": 0.0, "steps": 0}
        live: dict[str, dict] = {}
        number = 0
        for step in range(120):
            while len(live) < 5 and number < 24:
                # No more than three plans are ever under way: that is what the table holds.
                used = {item["plan"] for item in live.values()}
                plan = int(rng.integers(-1, 4))
                if len(used - {-1}) >= 3 and plan not in used:
                    plan = -1
                spec = None
                if plan >= 0 or number % 3:
                    spec = Spec(
                        f"k{number}",
                        digests[plan] if plan >= 0 else None,
                        turns=(1, 4),
                        pool=number % 2 == 0,
                        norms=number % 4 == 0,
                        probes=asked if number % 3 == 1 else None,
                    )
                prompt = int(rng.integers(5, 14))
                end = prompt + int(rng.integers(3, 9))
                live[f"r{number}"] = {"plan": plan, "spec": spec, "prompt": prompt, "at": 0, "end": end}
                number += 1
            order = list(live)
            rng.shuffle(order)
            order = order[: int(rng.integers(1, len(order) + 1))] if order else []
            if not order:
                break
            if step % 9 == 4:
                # Preempted: it begins anew, and what was counted is not counted again.
                live[order[0]]["at"] = 0
            lengths = [
                min(int(rng.integers(1, 7)), live[n]["prompt"] - live[n]["at"])
                if live[n]["at"] < live[n]["prompt"]
                else 1
                for n in order
            ]
            starts = np.concatenate([[0], np.cumsum(lengths)])
            computed = np.array([live[name]["at"] for name in order])

            def lookup(name):
                spec = live[name]["spec"]
                return live[name]["prompt"], None if spec is None else spec.extra_args()

            rows = int(starts[-1]) + 3
            for runtime in (*both, *stages):
                runtime.begin_step(order, starts, computed, lookup)
            for layer in range(LAYERS):
                hidden = torch.from_numpy(rng.standard_normal((rows, D)).astype(np.float32))
                residual = (
                    torch.from_numpy(rng.standard_normal((rows, D)).astype(np.float32)) if pair else None
                )
                one = hidden.clone(), None if residual is None else residual.clone()
                two = hidden.clone(), None if residual is None else residual.clone()
                both[0].layer(layer, *one)
                both[1].layer(layer, *two)
                three = hidden.clone(), None if residual is None else residual.clone()
                stages[min(layer, 1)].layer(layer, *three)
                for a, b in zip(two, three, strict=True):
                    report["untouched"] &= a is None or bool(torch.equal(a, b))
                for a, b, before in zip(one, two, (hidden, residual), strict=True):
                    if a is None or b is None or before is None:
                        continue
                    report["stream"] = max(report["stream"], float((a - b).abs().max()))
                    same = (a == before).all(-1)
                    report["untouched"] &= bool(torch.equal(b[same], before[same]))
            for runtime in (*both, *stages):
                runtime.end_step()
            report["steps"] += 1
            for name, length in zip(order, lengths, strict=True):
                live[name]["at"] += length
            for name in [n for n in order if live[n]["at"] >= live[n]["end"]]:
                spec = live.pop(name)["spec"]
                for runtime in (*both, *stages):
                    runtime.finish(name)
                if spec is None:
                    continue
                a, b = (read_results([runtime.fetch([spec.key])])[spec.key] for runtime in both)
                c = read_results([stage.fetch([spec.key]) for stage in stages])[spec.key]
                assert (c.counts, c.layers) == (b.counts, b.layers)
                assert (c.cap_counts.tokens, c.cap_counts.capped) == (
                    b.cap_counts.tokens,
                    b.cap_counts.capped,
                )
                assert (c.cap_counts.fired, c.cap_counts.greatest) == (
                    b.cap_counts.fired,
                    b.cap_counts.greatest,
                )
                for one, other in ((b.sums, c.sums), (b.norms, c.norms)):
                    assert (one is None) == (other is None)
                    assert one is None or np.array_equal(one, other)
                for one, other in zip(b.projections, c.projections, strict=True):
                    assert np.array_equal(one, other)
                assert a.counts == b.counts
                assert (a.cap_counts.tokens, a.cap_counts.capped) == (
                    b.cap_counts.tokens,
                    b.cap_counts.capped,
                ), name
                assert {k: n for k, n in a.cap_counts.fired.items() if n} == {
                    k: n for k, n in b.cap_counts.fired.items() if n
                }
                assert abs(a.cap_counts.greatest - b.cap_counts.greatest) < 1e-4
                if a.sums is not None:
                    report["sums"] = max(report["sums"], float(np.abs(a.sums - b.sums).max()))
                if a.norms is not None:
                    report["sums"] = max(report["sums"], float(np.abs(a.norms - b.norms).max()))
                for p, q in zip(a.projections, b.projections, strict=True):
                    assert p.shape == q.shape
                    report["projections"] = max(report["projections"], float(np.abs(p - q).max()))
        stats = both[1].stats()
        assert stats["requests"] == len([1 for item in live.values() if item["spec"] is not None])
        print(json.dumps({**report, "requests": number}))


if __name__ == "__main__":
    main(sys.argv[1] == "pair")
