"""What the plugin costs inside vLLM: idle, pooling, caps, all together, and 64 plans in one batch.

One stock engine and one with the plugin, in one process, in turn; 64 requests of 64 tokens each that nobody
ends early, greedy. Every way of the plugin fetches its results. A second stock engine says how far two equal
engines come out apart; the time inside the plugin's functions is measured too, in runs of its own.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from paired import interleave, interval, ratio, shares, table, write_page

from personascope.corpus import load_corpus
from personascope.engines import Probe, load_engine
from personascope.engines._vllm._results import read_results
from personascope.engines._vllm._spec import Spec
from personascope.engines._vllm._spool import ProbeSet
from personascope.interventions import Cap, Plan

REQUESTS, TOKENS = 64, 64
LIMITS = {
    ("plugin, idle", "stock vLLM"): 1.01,
    ("all layers pooled", "plugin, idle"): 1.05,
    ("cap at 8 layers", "plugin, idle"): 1.03,
    ("cap, pooled, 4 probes", "plugin, idle"): 1.08,
    ("64 caps, a plan each", "cap at 8 layers"): 1.10,
}
"""What each way may cost against which other one."""


SECOND = "stock vLLM, engine 2"


def ways_of(
    ours: Any, stock: Sequence[Any], prompts: Sequence[Sequence[int]], first: int = 100
) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
    """Return every way to run the prompts.

    Args:
        ours: The engine with the plugin.
        stock: One ``vllm.LLM`` without it, or several.
        prompts: Token ids.
        first: Token ids from this one on are put before the prompts, another one each time: a prefix
            cache that is hit would leave the prompts out of what is measured.

    Returns:
        The ways by name, and the share of tokens on which caps fired, filled in as ways run.
    """
    from vllm import SamplingParams

    d_model, n_layers = ours.info.d_model, ours.info.n_layers
    layers = range(n_layers // 2 - 1, n_layers // 2 + 7)
    numbers = itertools.count()
    rng = np.random.default_rng(0)
    axis = rng.standard_normal(d_model).astype(np.float32)
    at = [n_layers * part // 6 for part in (1, 3, 4, 5)]
    probes = ours.register(ProbeSet.of([Probe(f"layer {layer}", layer, axis) for layer in at]))

    def cap(direction: np.ndarray) -> str:
        return ours.register(Plan(tuple(Cap(layer, direction, floor=0.0) for layer in layers)))

    one = cap(axis)
    many = [cap(axis + 0.3 * rng.standard_normal(d_model).astype(np.float32)) for _ in prompts]
    assert len(set(many)) == len(prompts)
    fired: dict[str, float] = {}

    def generate(llm: Any, specs: Sequence[Spec | None], name: str = "") -> None:
        turn = next(numbers)
        given = [{"prompt_token_ids": [first + turn % 150, *prompt]} for prompt in prompts]
        params = [
            SamplingParams(
                temperature=0,
                max_tokens=TOKENS,
                ignore_eos=True,
                detokenize=False,
                extra_args=None if spec is None else spec.extra_args(),
            )
            for spec in specs
        ]
        done = llm.generate(given, params, use_tqdm=False)
        assert sum(len(output.outputs[0].token_ids) for output in done) == len(prompts) * TOKENS
        keys = [spec.key for spec in specs if spec is not None]
        if keys:
            found = read_results(llm.collective_rpc("personascope_fetch", args=(keys,)))
            tallies = [reading.tally for reading in found.values()]
            if sum(tally.tokens for tally in tallies):
                fired[name] = sum(t.capped for t in tallies) / sum(t.tokens for t in tallies)

    def with_plugin(name: str, plans: Sequence[str | None] = (None,), **fields: Any) -> None:
        plan = itertools.cycle(plans)
        specs = [Spec(f"{name}{next(numbers)}", plan=next(plan), **fields) for _ in prompts]
        generate(ours.llm, specs, name)

    nothing: list[Spec | None] = [None] * len(prompts)
    names = ["stock vLLM", *(f"stock vLLM, engine {n}" for n in range(2, len(stock) + 1))]
    ways: dict[str, Callable[[], None]] = {
        name: functools.partial(generate, llm, nothing) for name, llm in zip(names, stock, strict=True)
    }
    return ways | {
        "plugin, idle": lambda: generate(ours.llm, nothing),
        "all layers pooled": lambda: with_plugin("pool", pool=True),
        "cap at 8 layers": lambda: with_plugin("one", (one,)),
        "cap, pooled, 4 probes": lambda: with_plugin("all", (one,), pool=True, probes=probes),
        "64 caps, a plan each": lambda: with_plugin("many", many),
    }, fired


def ratios(seconds: dict[str, list[float]]) -> str:
    """Return a Markdown table of what each way costs against another, and what it may."""
    lines = [
        "| way | against | ratio, median | 95% interval of the median | range | asked for |",
        "|---|---|---|---|---|---|",
    ]
    for (name, to), limit in LIMITS.items():
        middle, least, most = ratio(seconds, name, to)
        low, high = interval(seconds, name, to)
        lines.append(
            f"| {name} | {to} | {middle:.3f} | {low:.3f} to {high:.3f} | {least:.3f} to {most:.3f} "
            f"| {limit:.2f} |"
        )
    return "\n".join(lines)


def main(repeats: int) -> None:
    from vllm import LLM

    from personascope.engines._vllm._runtime import Runtime
    from personascope.engines._vllm._scheduler import _Mixin

    # Without our logits processor, as a server runs: what drawing costs is in vllm_map.md.
    ours = load_engine("smollm2-135m", engine="vllm", max_batch=REQUESTS, sampler="vllm")
    stock = [
        LLM(
            model=ours.files.place,
            dtype=ours.info.dtype,
            max_num_seqs=REQUESTS,
            max_model_len=8192,
            disable_log_stats=True,
            enforce_eager=True,
            kv_cache_memory_bytes=2 << 30,
            block_size=32,
        )
        for _ in range(2)
    ]
    prompts = [ours.encode(question.text) for question in load_corpus().questions[:REQUESTS]]
    ways, fired = ways_of(ours, stock, prompts)
    seconds = interleave(ways, repeats)
    names = ("begin_step", "layer", "end_step", "finish", "fetch")
    plugin = [*((Runtime, name) for name in names), (_Mixin, "_accept"), (_Mixin, "_send")]
    inside = {name: shares(way, plugin, 3) for name, way in ways.items() if not name.startswith("stock")}
    equal, _, _ = ratio(seconds, SECOND, "stock vLLM")
    low, high = interval(seconds, SECOND, "stock vLLM")
    write_page(
        __file__,
        "What the plugin costs inside vLLM",
        f"vLLM {ours.info.versions['vllm']}, SmolLM2-135M-Instruct in {ours.info.dtype}, eager; {REQUESTS} "
        f"requests of {TOKENS} tokens, {repeats} interleaved repeats. The caps fired on {fired['one']:.0%} "
        f"of the tokens (one plan), {fired['many']:.0%} (64 plans).\n\n"
        + table(seconds, "stock vLLM")
        + "\n\n"
        + ratios(seconds)
        + f"\n\nA second stock engine takes {equal:.3f} of the first ({low:.3f} to {high:.3f}): so far apart "
        "two equal engines come out here.\n\n"
        "| way | share of the time inside the plugin, median | range |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {statistics.median(found):.2%} | {min(found):.2%} to {max(found):.2%} |"
            for name, found in inside.items()
        ),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
