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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from paired import interleave, table, whole, write_page
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from vllm_overhead import REQUESTS, ratios, ways_of

from personascope.engines import Capture, Probe, Request, Sampling, load_engine
from personascope.interventions import Cap, Plan, Steer


def make_model(folder: Path, *, small: bool) -> None:
    """Save a random Llama and a tokenizer of single bytes."""
    backend = Tokenizer(
        models.BPE(
            vocab={c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
            | {"<|end|>": 256},
            merges=[],
        )
    )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=1024 if small else 32000,
        hidden_size=128 if small else 1024,
        intermediate_size=256 if small else 2816,
        num_hidden_layers=16,
        num_attention_heads=4 if small else 16,
        num_key_value_heads=2 if small else 4,
        max_position_embeddings=4096,
        eos_token_id=256,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)


def parity(folder: str, options: dict) -> dict[str, float]:
    """Hold mixed requests to the Transformers engine, in float32; return what differs most."""
    reference = load_engine(folder, dtype="float32", max_batch=32)
    d_model, n_layers = reference.info.d_model, reference.info.n_layers
    v = np.random.default_rng(0).standard_normal((3, d_model)).astype(np.float32)
    middle = n_layers // 2
    plans = [
        None,
        Plan(tuple(Cap(layer, v[0], floor=0.3) for layer in range(middle, n_layers))),
        Plan((Steer(middle, v[1], strength=2.0),)),
        Plan((Steer(middle, v[1], strength=-2.0, where="response"), Cap(middle + 1, v[2], ceiling=-0.1))),
    ]
    probes = tuple(Probe(f"p{at}", at, v[0]) for at in (0, middle, n_layers - 1))
    wanted = [
        Request(
            f"r{n}",
            reference.encode(f"Question number {n}: what is there beyond the hill and the river?")[: 8 + n],
            Sampling(temperature=0, max_new_tokens=16 + n % 7),
            plan=plans[n % 4],
            capture=Capture() if n % 3 else None,
            probes=probes if n % 2 else (),
        )
        for n in range(32)
    ]
    want = {c.id: c for c in reference.run(wanted)}
    plain = [replace(r, plan=None, capture=None, probes=()) for r in wanted]
    del reference
    engine = load_engine(folder, engine="vllm", dtype="float32", max_batch=32, **options)
    got = {c.id: c for c in engine.run(wanted)}
    untouched = {c.id: c.token_ids for c in engine.run(plain)}
    same = [k for k in want if got[k].token_ids == want[k].token_ids]
    norm = np.linalg.norm
    pairs = [(got[k].pooled, want[k].pooled) for k in same if want[k].pooled is not None]
    gaps = [float((norm(a - b, axis=-1) / norm(b, axis=-1)).max()) for a, b in pairs]
    fired = [
        k
        for k in same
        if want[k].telemetry is not None and got[k].telemetry.capped_tokens != want[k].telemetry.capped_tokens
    ]
    moved = sum(untouched[k] != got[k].token_ids for k in want if got[k].plan_digest is not None)
    engine.close()
    return {
        "same tokens": len(same) / len(want),
        "means, greatest relative gap": max(gaps, default=float("nan")),
        "requests whose firing differs": len(fired),
        "planned requests that a plan changed": moved,
    }


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
