"""What plans cost in the Transformers engine: a cap at 8 layers on every token, and 64 plans in one batch.

The floors are at the 50th percentile of the role responses' projections, so that about half of the tokens
are moved. All ways answer the same questions with as many tokens each: nobody stops early. Keys and values
made under a plan serve that plan alone, so 64 plans pass a system prompt 64 times that one plan passes once:
the 64 plans are measured with a system prompt for each request, and again with one that all share.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from paired import interleave, ratio, table, write_page

from personascope.calibration import Sample, Window, cap_plan
from personascope.chat import Message
from personascope.corpus import load_corpus
from personascope.engines import Completion, Request, Sampling, load_engine
from personascope.interventions import Cap, Plan

TOKENS = 32
REPEATS = 5
WINDOW = Window(14, 22)


def main(run: Path) -> None:
    sample = Sample.open(run)
    plan = cap_plan(sample, WINDOW, axis_percentile=50)
    questions = [question.text for question in load_corpus().questions]
    sampling = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    small = [
        Request(f"r{number}", (Message("user", text),), sampling)
        for number, text in enumerate(questions[:64])
    ]
    large = [replace(request, plan=plan) for request in small[:64]]
    # 64 plans with directions and floors of their own, at the same layers.
    rng = np.random.default_rng(0)
    plans = [
        Plan(
            tuple(
                Cap(op.layer, op.direction + 0.02 * rng.standard_normal(op.direction.size), floor=op.floor)
                for op in plan.ops
                if isinstance(op, Cap)
            )
        )
        for _ in large
    ]
    many = [replace(request, plan=own) for request, own in zip(large, plans, strict=True)]
    own_prompt = {
        request.id: (Message("system", f"{number + 10} is your number. Be brief."), *request.prompt)
        for number, request in enumerate(large)
    }
    assert len({request.plan.digest for request in many if request.plan}) == 64

    engine = load_engine("smollm2-135m", max_batch=32)
    wide = load_engine("smollm2-135m", max_batch=64)
    shares: dict[str, float] = {}

    def generate(name: str, what, requests: list[Request]) -> None:
        done: list[Completion] = list(what.run(requests))
        assert len(done) == len(requests)
        assert all((c.plan_digest is None) == (requests[0].plan is None) for c in done)
        acted = sum(c.cap_stats.tokens for c in done if c.cap_stats)
        fired = sum(c.cap_stats.capped_tokens for c in done if c.cap_stats)
        shares[name] = fired / acted if acted else 0.0

    first = interleave(
        {
            "no plan, batch 32": lambda: generate("none", engine, small),
            "cap at 8 layers on every token, batch 32": lambda: generate("cap", engine, large),
        },
        REPEATS,
    )
    second = interleave(
        {
            "one plan": lambda: generate("one", wide, [replace(r, prompt=own_prompt[r.id]) for r in large]),
            "64 plans": lambda: generate("many", wide, [replace(r, prompt=own_prompt[r.id]) for r in many]),
        },
        REPEATS,
    )
    third = interleave(
        {
            "one plan": lambda: generate("one shared", wide, large),
            "64 plans": lambda: generate("many shared", wide, many),
        },
        REPEATS,
    )
    cap = ratio(first, "cap at 8 layers on every token, batch 32", "no plan, batch 32")
    distinct = ratio(second, "64 plans", "one plan")
    shared = ratio(third, "64 plans", "one plan")
    write_page(
        __file__,
        "What plans cost",
        f"SmolLM2-135M-Instruct in {engine.info.dtype}; 64 prompts, {TOKENS} response tokens each, layers "
        f"{WINDOW}; {REPEATS} interleaved repeats. The caps fired on {shares['cap']:.0%} of the tokens "
        f"(one plan), {shares['many']:.0%} (64 plans).\n\n"
        + table(first, "no plan, batch 32")
        + f"\n\nThe cap costs {cap[0]:.3f} of generation without it ({cap[1]:.3f} to {cap[2]:.3f}).\n\n"
        + table(second, "one plan")
        + "\n\nWith a system prompt for each request, 64 plans in a batch of 64 cost "
        f"{distinct[0]:.3f} of one plan ({distinct[1]:.3f} to {distinct[2]:.3f}).\n\n"
        + table(third, "one plan")
        + f"\n\nWhen all share the model's default system prompt, they cost {shared[0]:.3f} "
        f"({shared[1]:.3f} to {shared[2]:.3f}): one plan passes it once, 64 plans pass it 64 times.",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/plans.py RUN   (the run folder of a map of smollm2-135m)")
    main(Path(sys.argv[1]))
