"""Parity and overheads of the plugin on a GPU, with CUDA graphs: one command, no model to fetch.

    python benchmarks/gpu.py

It makes a random Llama of some 250 million parameters, holds the plugin to the Transformers engine, and
measures what `vllm_overhead.py` does, for both of vLLM's model runners, with asynchronous scheduling off
and on. Every setting runs in a process of its own. On a machine without a GPU it runs the one setting that is
there, small, so that the script itself can be tried: python benchmarks/gpu.py --small
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from paired import interleave, table, whole, write_page
from random_model import differences, make_model, mixed_requests, plain
from vllm_overhead import REQUESTS, ratios, ways_of

from personascope.engines import load_engine


def parity(folder: str, options: dict) -> dict[str, float]:
    """Hold mixed requests to the Transformers engine, in float32; return what differs most."""
    reference = load_engine(folder, dtype="float32", max_batch=32)
    wanted = mixed_requests(reference.info.n_layers, reference.info.d_model, reference.encode)
    want = {c.id: c for c in reference.run(wanted)}
    del reference
    engine = load_engine(folder, engine="vllm", dtype="float32", max_batch=32, **options)
    got = {c.id: c for c in engine.run(wanted)}
    untouched = {c.id: c for c in engine.run([plain(request) for request in wanted])}
    engine.close()
    return differences(got, want, untouched)


def one(folder: str, setting: dict) -> None:
    """Run one setting and print its result as JSON."""
    from vllm import LLM

    small = setting["small"]
    options: dict = {"max_model_len": 2048, "async_scheduling": setting["async"]}
    memory: dict = {} if small else {"gpu_memory_utilization": 0.35}
    found: dict = {"setting": setting, "parity": parity(folder, options | memory)}
    dtype = "float32" if small else "bfloat16"
    ours = load_engine(folder, engine="vllm", dtype=dtype, max_batch=REQUESTS, **options, **memory)
    common = {"async_scheduling": setting["async"]} | memory
    if small:
        common |= {"enforce_eager": True, "kv_cache_memory_bytes": 1 << 29, "block_size": 32}
    stock = LLM(
        model=folder,
        dtype=dtype,
        max_num_seqs=REQUESTS,
        max_model_len=2048,
        disable_log_stats=True,
        **common,
    )
    text = "The keeper of the light counts the ships that pass, and writes each into a book. "
    prompts = [ours.encode(text * 2)[n : n + 80] for n in range(REQUESTS)]
    ways, found["fired"] = ways_of([ours], [stock], prompts, first=0)
    found["seconds"] = interleave({name: whole(way) for name, way in ways.items()}, 2 if small else 9)
    print("RESULT " + json.dumps(found))


def main(*, small: bool) -> None:
    settings = [
        {"runner": runner, "async": ahead, "small": small}
        for runner in ((1,) if small else (1, 2))
        for ahead in ((False,) if small else (False, True))
    ]
    parts: list[str] = []
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        make_model(Path(scratch), small=small)
        for setting in settings:
            done = subprocess.run(
                [sys.executable, __file__, "--one", scratch, json.dumps(setting)],
                env={
                    **os.environ,
                    "VLLM_USE_V2_MODEL_RUNNER": str(setting["runner"] - 1),
                    "HF_HUB_OFFLINE": "1",
                },
                capture_output=True,
                text=True,
                check=False,
            )
            ahead = "on" if setting["async"] else "off"
            title = f"Model runner V{setting['runner']}, asynchronous scheduling {ahead}"
            line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
            if line is None:
                failed = True
                parts.append(f"## {title}\n\nfailed:\n\n```\n{(done.stderr or done.stdout)[-2500:]}\n```")
                continue
            found = json.loads(line.removeprefix("RESULT "))
            checks = "\n".join(f"- {name}: {value:.3g}" for name, value in found["parity"].items())
            tables = f"{table(found['seconds'], 'stock vLLM')}\n\n{ratios(found['seconds'])}"
            parts.append(f"## {title}\n\n{checks}\n\n{tables}")
    body = "\n\n".join(parts)
    if small:
        # What a CPU measures of a toy is no result to keep.
        print(body)
    else:
        write_page(__file__, "The plugin on a GPU", body)
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], json.loads(sys.argv[3]))
    else:
        main(small="--small" in sys.argv)
