"""What it costs to watch every token of every reply at one layer, beside plain generation.

Two measures: whole runs in turn, and the time inside the watched run that goes into reading the layer and
asking the monitors, which a noisy host disturbs less.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paired import interleave, ratio, table, write_page

from personascope.corpus.evals import load_chats
from personascope.dynamics import Monitor
from personascope.engines import Completion, Probe, Request, Sampling, load_engine
from personascope.engines._transformers import _engine
from personascope.engines._transformers._capture import StepReader
from personascope.mapping import MAP
from personascope.space import PersonaMap

REPLIES = 64
TOKENS = 64


class Clock:
    """Adds up the time spent in some functions."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function with its time taken."""

        def timed(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def main(run: Path, monitor: Path, repeats: int) -> None:
    found = PersonaMap.open(run / MAP)
    engine = load_engine(found.model.id)
    watcher = Monitor.load(monitor)
    probe = Probe("axis", watcher.layer, found.unit_axis(watcher.layer))
    asked = [chat[:1] for chat in load_chats().chats if chat[0].role == "user"]
    # Nobody stops early, so that every way makes as many tokens.
    how = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    prompts = [(f"r{n}", asked[n % len(asked)]) for n in range(REPLIES)]

    def plain() -> list[Completion]:
        return list(engine.run(Request(id, prompt, how) for id, prompt in prompts))

    def watched() -> list[Completion]:
        return list(
            engine.run(
                Request(id, prompt, how, probes=(probe,), watch=watcher.fresh().watch("axis"))
                for id, prompt in prompts
            )
        )

    assert {c.id: c.token_ids for c in plain()} == {c.id: c.token_ids for c in watched()}
    seconds = interleave({"plain generation": plain, "watched by a monitor": watched}, repeats)
    shares = []
    for _ in range(repeats):
        clock = Clock()
        kept = _engine.ask_watches, StepReader.__call__, StepReader.finish_step
        _engine.ask_watches, StepReader.__call__, StepReader.finish_step = map(clock.around, kept)  # pyright: ignore
        begun = time.perf_counter()
        watched()
        shares.append(clock.seconds / (time.perf_counter() - begun))
        _engine.ask_watches, StepReader.__call__, StepReader.finish_step = kept
    middle, low, high = ratio(seconds, "watched by a monitor", "plain generation")
    write_page(
        __file__,
        "Watching",
        f"{REPLIES} replies of {TOKENS} tokens side by side, SmolLM2-135M-Instruct in {engine.info.dtype}, "
        f"a monitor of tokens at layer {watcher.layer}; {repeats} interleaved repeats. The tokens are the "
        "same in both ways; a watched reply's last token passes through the model too, which is one token in "
        f"{TOKENS}.\n\n"
        + table(seconds, "plain generation")
        + f"\n\nWatched generation takes {middle:.3f} of plain generation ({low:.3f} to {high:.3f}). "
        "Inside a watched run, reading the layer and asking the monitors take "
        f"{statistics.median(shares):.2%} of the time ({min(shares):.2%} to {max(shares):.2%}, "
        f"{repeats} runs).",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5)
