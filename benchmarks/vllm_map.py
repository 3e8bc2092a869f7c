"""How fast rollouts with pooled activations are made: with the plugin, in Transformers, in two passes.

The two-pass way is stock vLLM, then a Transformers forward pass with hooks that keeps means (batches of 16
sorted by length, no LM head). The same rollouts of the standard design, the default sampling.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from capture import second_pass
from paired import interleave, ratio, table, write_page

from personascope.corpus import load_corpus
from personascope.engines import Completion, load_engine
from personascope.mapping import PROFILES, build_design

ROLLOUTS = 128


def main(repeats: int) -> None:
    from vllm import LLM, SamplingParams

    transformers = load_engine("smollm2-135m")
    ours = load_engine("smollm2-135m", engine="vllm")
    stock = LLM(
        model=ours.files.place,
        dtype=ours.info.dtype,
        max_num_seqs=ours.max_batch,
        max_model_len=8192,
        disable_log_stats=True,
        enforce_eager=True,
        kv_cache_memory_bytes=2 << 30,
        block_size=32,
    )
    # Generation and pooling alone are timed here.
    profile = replace(PROFILES["standard"], role_information=False)
    design = build_design(load_corpus(), profile, 0, "SmolLM2")
    rollouts = [rollout for unit in range(design.n_units) for rollout in design.unit(unit)]
    requests = [design.request(rollout) for rollout in rollouts[:: len(rollouts) // ROLLOUTS]][:ROLLOUTS]
    prompts = {request.id: ours.chat.render(request.prompt) for request in requests}  # pyright: ignore
    tokens: dict[str, int] = {}
    kept: dict[str, dict[str, np.ndarray]] = {}

    def pooled(name: str, engine) -> None:
        done = list(engine.run(requests))
        tokens[name] = sum(completion.token_count for completion in done)
        kept[name] = {c.id: c.pooled for c in done if c.pooled is not None}

    def stock_generate(name: str, top_p: bool = True) -> list[Completion]:
        params = [
            SamplingParams(
                temperature=request.sampling.temperature,
                top_p=request.sampling.top_p if top_p else 1.0,
                max_tokens=request.sampling.max_new_tokens,
                min_tokens=request.sampling.min_new_tokens,
                # No seed: vLLM's CPU build stops on one when a prompt is taken in by parts.
                stop_token_ids=sorted(ours.files.eos_token_ids),
            )
            for request in requests
        ]
        outputs = stock.generate(
            [{"prompt_token_ids": list(prompts[request.id])} for request in requests], params, use_tqdm=False
        )
        done = []
        for request, output in zip(requests, outputs, strict=True):
            ids = tuple(t for t in output.outputs[0].token_ids if t not in ours.files.eos_token_ids)
            done.append(Completion(request.id, "", ids, "stop", len(prompts[request.id])))
        tokens[name] = sum(len(c.token_ids) for c in done)
        return done

    def two_passes() -> None:
        second_pass(transformers, prompts, stock_generate("two"))

    seconds = interleave(
        {
            "vllm engine, one pass": lambda: pooled("vllm", ours),
            "transformers engine, one pass": lambda: pooled("transformers", transformers),
            "stock vLLM, then a Transformers pass": two_passes,
            "stock vLLM alone": lambda: stock_generate("stock"),
            "stock vLLM alone, without top_p": lambda: stock_generate("wide", top_p=False),
        },
        repeats,
    )
    # Rates, since the ways draw different tokens.
    names = dict(zip(seconds, ("vllm", "transformers", "two", "stock", "wide"), strict=True))
    rates = {way: [s * 1000 / tokens[names[way]] for s in values] for way, values in seconds.items()}
    ours_name = "vllm engine, one pass"
    two = ratio(rates, "stock vLLM, then a Transformers pass", ours_name)
    other = ratio(rates, "transformers engine, one pass", ours_name)
    a, b = kept["vllm"], kept["transformers"]
    close = [k for k in a if k in b and np.linalg.norm(a[k] - b[k]) < 0.02 * np.linalg.norm(b[k])]
    write_page(
        __file__,
        "Rollouts with pooled activations",
        f"{ROLLOUTS} rollouts of the standard design, SmolLM2-135M-Instruct in {ours.info.dtype}, "
        f"vLLM {ours.info.versions['vllm']} (eager), all layers pooled, {repeats} interleaved repeats. "
        "Seconds for 1,000 response tokens, since ways that draw for themselves draw other tokens.\n\n"
        + table(rates, ours_name)
        + f"\n\nOne pass in vLLM is {two[0]:.2f} times as fast as vLLM and a second pass ({two[1]:.2f} to "
        f"{two[2]:.2f}), and {other[0]:.2f} times as fast as the Transformers engine ({other[1]:.2f} to "
        f"{other[2]:.2f}). "
        f"{len(close)} of {len(a)} rollouts are the same in both of our engines.",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
