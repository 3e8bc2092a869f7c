"""Gates and plans on parts in both flavours of the runtime, through the same steps, in Triton's interpreter.

A process of its own: the interpreter is chosen when Triton is imported.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from engines.test_course import cut, drawn, same, setting
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.engines._vllm.worker._static import StaticRuntime


def main() -> None:
    """Hold the flavours to each other, and print how many gates opened."""
    rng = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as folder:
        common, digests, probes, _ = setting(folder)
        limits = Limits(plans=8, ops=4, slots=40)
        both = [Runtime(**common), StaticRuntime(limits=limits, **common)]
        cases = [drawn(rng, number, digests[:3], probes, digests[3:]) for number in range(12)]
        report = {"requests": 0, "gates": 0, "stops": 0, "stream": 0.0}
        for _, (one, other), streams in cut(rng, cases, both):
            same(other, one)
            report["requests"] += 1
            report["gates"] += one.gate_at is not None
            report["stops"] += one.stopped is not None
            for a, b in zip(*streams, strict=True):
                report["stream"] = max(report["stream"], float((a - b).abs().max()))
        assert both[1].stats()["cap_counts"] == both[1].stats()["free_cap_counts"]
        assert not both[1].plans.users
    print(json.dumps(report))


if __name__ == "__main__":
    main()
