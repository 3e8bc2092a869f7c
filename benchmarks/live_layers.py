"""What the server's readings cost: CPU time of two replies with positions, the space, and every layer.

    python benchmarks/live_layers.py --map RUN [--model smollm2-135m] [--rounds 5]

The kinds take turns, so that whatever else the machine does falls on all of them. It prints the median over
the rounds of the CPU time of each kind, and its ratio to positions alone in the same round, with the range of
the rounds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from personascope import engines
from personascope.chat import Message
from personascope.engines import Capture, LiveEnd, Request, Sampling, TransformersEngine
from personascope.live import Positions
from personascope.space import PersonaMap

TOKENS = 64


def request(kind: str, positions: Positions) -> Request:
    assert positions.space is not None
    more = {"positions": (), "space": positions.space.probes, "layers": positions.layers.probes}[kind]
    return Request(
        "chat",
        (Message("user", "What is rain?"),),
        Sampling(0.7, 1.0, TOKENS, min_new_tokens=TOKENS),
        capture=Capture((positions.layer,)) if kind == "space" else None,
        probes=(positions.probe, *more),
        tokens="response",
    )


def seconds(engine: TransformersEngine, asked: Request) -> float:
    """Return the CPU time of two such replies that run together."""
    batch = engine.open_batch()
    start = time.process_time()
    for _ in range(2):
        batch.submit(asked)
    ended = 0
    while ended < 2:
        for event in batch.step():
            if isinstance(event, LiveEnd):
                assert event.completion is not None and len(event.completion.token_ids) == TOKENS
                ended += 1
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--map", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    positions = Positions.of(PersonaMap.open(options.map))
    engine = engines.load_engine(options.model, engine="transformers", dtype="float32")
    assert isinstance(engine, TransformersEngine)
    kinds = ("positions", "space", "layers")
    seconds(engine, request("layers", positions))
    took = np.array(
        [[seconds(engine, request(kind, positions)) for kind in kinds] for _ in range(options.rounds)]
    )
    for column, kind in enumerate(kinds):
        ratio = took[:, column] / took[:, 0]
        print(
            f"{kind}: {np.median(took[:, column]):.2f} s, {np.median(ratio):.3f} times positions "
            f"({ratio.min():.3f} to {ratio.max():.3f}, {options.rounds} rounds)",
            flush=True,
        )


if __name__ == "__main__":
    main()
