"""What it saves that a local judge computes a rubric once, and whether its scores stay the same.

The first responses of `judge_labels.jsonl` are scored in three ways: every prompt whole and alone, prompts
whole in batches, and in batches with the rubric's beginning computed once. Each way runs in turn.

    python benchmarks/judge_local.py MODEL [ITEMS]     # writes judge_local.md
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from judge_agreement import item, labelled
from paired import interleave, table, write_page

from personascope.engines import native_dtype
from personascope.judge.local._judge import LocalJudge
from personascope.models import load

REPEATS = 2


def judge(loaded: object, batch_size: int, *, shares: bool) -> LocalJudge:
    """Return a judge that computes the rubric once, or that passes every prompt whole."""
    made = LocalJudge(loaded, batch_size=batch_size)  # pyright: ignore[reportArgumentType]
    if not shares:
        made._passes._able = False  # pyright: ignore[reportPrivateUsage]
    return made


def main(name: str, count: int) -> None:
    """Time the ways, compare their probabilities, and write the page."""
    items = [item(row) for row in labelled()[:count]]
    native = native_dtype("cpu")
    ways: dict[str, Callable[[], object]] = {}
    shares: dict[str, np.ndarray] = {}
    tokens: dict[str, int] = {}
    for dtype in dict.fromkeys(("float32", native)):
        loaded = load(name, dtype=dtype)  # pyright: ignore[reportArgumentType]
        for way, size, once in (("alone", 1, False), ("batches", 8, False), ("rubric once", 8, True)):
            key = f"{dtype}, {way}"
            made = judge(loaded, size, shares=once)
            found = made.score_batch(items)
            shares[key] = np.array([verdict.probabilities for verdict in found])
            before = made.stats.prompt_tokens
            made.score_batch(items)
            tokens[key] = made.stats.prompt_tokens - before
            if way != "alone" or dtype == "float32":
                ways[key] = lambda made=made: made.score_batch(items)
    seconds = interleave(ways, REPEATS)
    exact = shares["float32, alone"]
    rows = [
        f"| {key} | {tokens[key]} | {np.abs(found - exact).max():.1e} "
        f"| {(found.argmax(1) != exact.argmax(1)).sum()} |"
        for key, found in shares.items()
    ]
    write_page(
        __file__,
        "A local judge that computes its rubric once",
        f"{count} responses of `judge_labels.jsonl`, judge {name}, {torch.get_num_threads()} threads; "
        f"{REPEATS} interleaved repeats. The beginning that every prompt shares is computed at the first "
        "batch, which is not timed.\n\n"
        + table(seconds, "float32, alone")
        + "\n\nAgainst the scores one at a time in float32:\n\n"
        + "| way | tokens passed | greatest difference of a probability | other labels |\n|---|---|---|---|\n"
        + "\n".join(rows),
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 24)
