"""What the plugin costs inside vLLM: idle, pooling, caps, all together, and 64 plans in one batch.

Stock engines and engines with the plugin in one process, which take turns step by step; 64 requests of 64
tokens each that nobody ends early, greedy. Every way of the plugin fetches its results. Two equal engines are
not equally fast: there are as many as ways of the plugin, and the ways change places from run to run. The
stock engines run once more under another name, which says how far two equal ways come out apart. The time
inside the plugin's functions is measured too, in runs of its own.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from paired import interleave_steps, interval, ratio, shares, table, whole, write_page

from personascope.corpus import load_corpus
from personascope.engines import Probe, load_engine
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.request._results import read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.interventions import Cap, Plan

REQUESTS, TOKENS = 64, 64
ENGINES = 5
"""Stock engines, and engines with the plugin: one for each of its ways."""

LIMITS = {
    ("plugin, idle", "stock vLLM"): 1.01,
    ("all layers pooled", "plugin, idle"): 1.05,
    ("cap at 8 layers", "plugin, idle"): 1.03,
    ("cap, pooled, 4 probes", "plugin, idle"): 1.08,
    ("64 caps, a plan each", "cap at 8 layers"): 1.10,
}
"""What each way may cost against which other one."""


SECOND = "stock vLLM again"


Way = Callable[[], Iterator[None]]
"""Runs all prompts, and yields after each step."""


def ways_of(
    plugin: Sequence[Any], stock: Sequence[Any], prompts: Sequence[Sequence[int]], first: int = 100
) -> tuple[dict[str, Way], dict[str, float]]:
    """Return every way to run the prompts.

    Args:
        plugin: Engines with the plugin: one for each of its ways, or one for all. They change places.
        stock: One ``vllm.LLM`` without it, or several, which change places too.
        prompts: Token ids.
        first: Token ids from this one on are put before the prompts, another one each time: a prefix
            cache that is hit would leave the prompts out of what is measured.

    Returns:
        The ways by name, and the share of tokens on which caps fired, filled in as ways run.
    """
    from vllm import SamplingParams

    d_model, n_layers = plugin[0].info.d_model, plugin[0].info.n_layers
    layers = range(n_layers // 2 - 1, n_layers // 2 + 7)
    numbers = itertools.count()
    turns: dict[int, int] = {}
    rng = np.random.default_rng(0)
    axis = rng.standard_normal(d_model).astype(np.float32)
    at = [n_layers * part // 6 for part in (1, 3, 4, 5)]
    probes = ProbeSet.of([Probe(f"layer {layer}", layer, axis) for layer in at])

    def cap(direction: np.ndarray) -> Plan:
        return Plan(tuple(Cap(layer, direction, floor=0.0) for layer in layers))

    one = cap(axis)
    many = [cap(axis + 0.3 * rng.standard_normal(d_model).astype(np.float32)) for _ in prompts]
    assert len({plan.digest for plan in many}) == len(prompts)
    fired: dict[str, float] = {}

    def generate(llm: Any, specs: Sequence[Spec | None], name: str) -> Iterator[None]:
        turn = turns[id(llm)] = turns.get(id(llm), -1) + 1
        engine = llm.llm_engine
        for prompt, spec in zip(prompts, specs, strict=True):
            engine.add_request(
                f"{name}{next(numbers)}",
                {"prompt_token_ids": [first + turn % 150, *prompt]},
                SamplingParams(
                    temperature=0,
                    max_tokens=TOKENS,
                    ignore_eos=True,
                    detokenize=False,
                    extra_args=None if spec is None else spec.extra_args(),
                ),
            )
        tokens = 0
        while engine.has_unfinished_requests():
            for output in engine.step():
                tokens += len(output.outputs[0].token_ids) if output.finished else 0
            yield
        assert tokens == len(prompts) * TOKENS
        keys = [spec.key for spec in specs if spec is not None]
        if keys:
            found = read_results(engine.collective_rpc("personascope_fetch", args=(keys,)))
            applied = [reading.cap_counts for reading in found.values()]
            if sum(counts.tokens for counts in applied):
                fired[name] = sum(c.capped for c in applied) / sum(c.tokens for c in applied)

    runs: Counter[int] = Counter()

    def choose(engines: Sequence[Any], place: int) -> Any:
        """Return the engine of a way's next run."""
        runs[place] += 1
        return engines[(place + runs[place]) % len(engines)]

    def with_stock(place: int) -> Way:
        return lambda: generate(choose(stock, place), [None] * len(prompts), "stock")

    def with_plugin(
        place: int, plans: Sequence[Plan] = (), *, probed: bool = False, pool: bool = False
    ) -> Way:
        def run() -> Iterator[None]:
            ours = choose(plugin, place)
            digest = itertools.cycle([ours.register(plan) for plan in plans] or [None])
            asked = ours.register(probes) if probed else None
            planned = bool(plans) or probed or pool
            specs = [
                Spec(f"{next(numbers)}", plan=next(digest), pool=pool, probes=asked) if planned else None
                for _ in prompts
            ]
            return generate(ours.llm, specs, f"{len(plans)} plans")

        return run

    names = ["stock vLLM", SECOND] if len(stock) > 1 else ["stock vLLM"]
    return {name: with_stock(place) for place, name in enumerate(names)} | {
        "plugin, idle": with_plugin(10),
        "all layers pooled": with_plugin(11, pool=True),
        "cap at 8 layers": with_plugin(12, (one,)),
        "cap, pooled, 4 probes": with_plugin(13, (one,), pool=True, probed=True),
        "64 caps, a plan each": with_plugin(14, many),
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
    if repeats < 1 or repeats % ENGINES:
        raise SystemExit(
            f"every way runs on each of {ENGINES} engines as often: {repeats} repeats are no multiple"
        )
    from vllm import LLM

    from personascope.engines._vllm._scheduler import _Mixin
    from personascope.engines._vllm.worker._runtime import Runtime

    memory = {"kv_cache_memory_bytes": 1 << 28}

    def with_plugin() -> Any:
        # Without our logits processor, as a server runs: what drawing costs is in vllm_map.md.
        return load_engine("smollm2-135m", engine="vllm", max_batch=REQUESTS, sampler="vllm", **memory)

    def without() -> Any:
        return LLM(
            model=ours.files.place,
            dtype=ours.info.dtype,
            max_num_seqs=REQUESTS,
            max_model_len=8192,
            disable_log_stats=True,
            enforce_eager=True,
            block_size=32,
            **memory,
        )

    # The first engine of a process is the slowest, whichever it is: it is not measured.
    ours = with_plugin()
    stock: list[Any] = []
    plugin: list[Any] = []
    for number in range(ENGINES):
        # Later ones may be slower, too: neither kind always comes first.
        for kind in ("stock", "plugin")[:: 1 if number % 2 == 0 else -1]:
            if kind == "stock":
                stock.append(without())
            else:
                plugin.append(with_plugin())
    prompts = [ours.encode(question.text) for question in load_corpus().questions[:REQUESTS]]
    ways, fired = ways_of(plugin, stock, prompts)
    seconds = interleave_steps(ways, repeats)
    names = ("begin_step", "layer", "end_step", "finish", "fetch")
    functions = [*((Runtime, name) for name in names), (_Mixin, "_accept"), (_Mixin, "_send")]
    inside = {
        name: shares(whole(way), functions, 5) for name, way in ways.items() if not name.startswith("stock")
    }
    equal, _, _ = ratio(seconds, SECOND, "stock vLLM")
    low, high = interval(seconds, SECOND, "stock vLLM")
    write_page(
        __file__,
        "What the plugin costs inside vLLM",
        f"vLLM {ours.info.versions['vllm']}, SmolLM2-135M-Instruct in {ours.info.dtype}, eager; {REQUESTS} "
        f"requests of {TOKENS} tokens, {repeats} repeats on {ENGINES} engines without and {ENGINES} with the "
        "plugin; all ways take turns step by step. The caps fired "
        f"on {fired['1 plans']:.0%} of the tokens (one plan), {fired['64 plans']:.0%} (64 plans).\n\n"
        + table(seconds, "stock vLLM")
        + "\n\n"
        + ratios(seconds)
        + f"\n\nThe stock engines take {equal:.3f} of themselves ({low:.3f} to {high:.3f}): so far apart two "
        "equal ways come out here.\n\n"
        "| way | share of the time inside the plugin, median | range |\n|---|---|---|\n"
        + "\n".join(
            f"| {name} | {statistics.median(found):.2%} | {min(found):.2%} to {max(found):.2%} |"
            for name, found in inside.items()
        ),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6 * ENGINES)
