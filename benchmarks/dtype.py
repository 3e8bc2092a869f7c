"""Which dtype a CPU should generate in: bfloat16 against float32, the same requests."""

from __future__ import annotations

from dataclasses import replace

import torch
from paired import interleave, table, write_page

from personascope.corpus import load_corpus
from personascope.engines import Sampling, TransformersEngine, load_engine, native_dtype
from personascope.mapping import PROFILES, build_design

REPEATS = 3


def main() -> None:
    # Generation and pooling alone are timed here.
    profile = replace(PROFILES["standard"], role_information=False)
    design = build_design(load_corpus(), profile, 0, "SmolLM2")
    sampling = Sampling(max_new_tokens=16, min_new_tokens=16)
    requests = [replace(design.request(rollout), sampling=sampling) for rollout in design.unit(5)[:64]]

    def run(engine: TransformersEngine) -> None:
        assert len(list(engine.run(requests))) == len(requests)

    engines = {dtype: load_engine("smollm2-135m", dtype=dtype) for dtype in ("float32", "bfloat16")}
    seconds = interleave({dtype: lambda e=engine: run(e) for dtype, engine in engines.items()}, REPEATS)
    able = {
        name: bool(torch.cpu.get_capabilities().get(name))
        for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    }
    write_page(
        __file__,
        "bfloat16 and float32 on this CPU",
        f"64 rollouts of 16 tokens with all layers pooled; {REPEATS} interleaved repeats. "
        f'`dtype="auto"` takes {native_dtype("cpu")} here.\n\n'
        + table(seconds, "float32")
        + "\n\nInstructions: "
        + ", ".join(f"{name} {'yes' if value else 'no'}" for name, value in able.items())
        + ".",
    )


if __name__ == "__main__":
    main()
