"""What it costs to watch every token of every reply at one layer, beside plain generation.

Two measures: the ways in turn, step by step, with plain generation a second time for how far equal ways come
out apart; and the share of a watched run that goes into reading the layer and asking the monitors.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from paired import interleave_steps, interval, ratio, shares, table, whole, write_page

from personascope.corpus.datasets import load_chats
from personascope.dynamics.monitor import Monitor
from personascope.engines import Completion, Probe, Request, Sampling, load_engine
from personascope.engines._transformers import _batch
from personascope.engines._transformers._capture import StepReader
from personascope.mapping import MAP
from personascope.space import PersonaMap

REPLIES = 64
TOKENS = 96


def tokens(done: Iterator[Completion | None]) -> dict[str, tuple[int, ...]]:
    return {each.id: each.token_ids for each in done if each is not None}


def main(run: Path, monitor: Path, repeats: int) -> None:
    persona_map = PersonaMap.open(run / MAP)
    watcher = Monitor.load(monitor)
    probe = Probe("axis", watcher.layer, persona_map.unit_axis(watcher.layer))
    asked = [chat[:1] for chat in load_chats().chats if chat[0].role == "user"]
    # Nobody stops early, so that every way makes as many tokens.
    how = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    prompts = [(f"r{n}", asked[n % len(asked)]) for n in range(REPLIES)]

    # From run to run the ways change places, as two equal engines of a process are not equally fast.
    engines = [load_engine(persona_map.model.id) for _ in range(3)]
    engine = engines[0]

    def way(place: int, *, watched: bool = False) -> Callable[[], Iterator[Completion | None]]:
        turns = itertools.count(place)

        def run() -> Iterator[Completion | None]:
            requests = (Request(id, prompt, how) for id, prompt in prompts)
            if watched:
                # A monitor of its own for each reply.
                requests = (
                    replace(each, probes=(probe,), watch=watcher.fresh().watch("axis")) for each in requests
                )
            return engines[next(turns) % 3].run(requests)

        return run

    plain, again, watched = way(0), way(1), way(2, watched=True)
    assert tokens(plain()) == tokens(again()) == tokens(watched())
    step = _batch.Batch._step
    # Each step yields, so that the ways can take turns.
    _batch.Batch._step = lambda batch: [*step(batch), None]  # pyright: ignore
    seconds = interleave_steps(
        {"plain generation": plain, "plain, once more": again, "watched by a monitor": watched}, repeats
    )
    read = [(StepReader, "__call__"), (StepReader, "finish_step"), (_engine, "ask_watches")]
    inside = shares(whole(watched), read, repeats)
    equal, watching = (
        (ratio(seconds, name, "plain generation")[0], *interval(seconds, name, "plain generation"))
        for name in ("plain, once more", "watched by a monitor")
    )
    write_page(
        __file__,
        "Watching",
        f"{REPLIES} replies of {TOKENS} tokens side by side, SmolLM2-135M-Instruct in {engine.info.dtype}, "
        f"a monitor of tokens at layer {watcher.layer} of {engine.info.n_layers}; {repeats} repeats; all "
        "ways take turns step by step. The tokens are the same in all of them. A watched reply's last token "
        "passes through the layers up to the monitor's too: "
        f"{(watcher.layer + 1) / engine.info.n_layers / TOKENS:.2%} more work. (A reply that the model ends "
        "by itself has no such pass: its last token was passed to find its end.)\n\n"
        + table(seconds, "plain generation")
        + f"\n\nWatched generation takes {watching[0]:.3f} of plain generation (95% interval of the median "
        f"{watching[1]:.3f} to {watching[2]:.3f}); plain generation measured a second time takes "
        f"{equal[0]:.3f} ({equal[1]:.3f} to {equal[2]:.3f}). Inside a watched run, reading the layer and "
        f"asking the monitors take {statistics.median(inside):.2%} of the time ({min(inside):.2%} to "
        f"{max(inside):.2%}, {repeats} runs).",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 9)
