"""What it costs to watch every token of every reply at one layer, beside plain generation.

Two measures: whole runs in turn, with plain generation a second time for how far equal ways come out apart;
and the share of a watched run that goes into reading the layer, asking the monitors, and the pass of the last
tokens, which plain generation does without.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from paired import interleave, interval, ratio, shares, table, write_page

from personascope.corpus.evals import load_chats
from personascope.dynamics import Monitor
from personascope.engines import Completion, Probe, Request, Sampling, load_engine
from personascope.engines._transformers import _engine
from personascope.engines._transformers._capture import StepReader
from personascope.mapping import MAP
from personascope.space import PersonaMap

REPLIES = 64
TOKENS = 128


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
    seconds = interleave(
        {"plain generation": plain, "plain, once more": plain, "watched by a monitor": watched}, repeats
    )
    read = [(StepReader, "__call__"), (StepReader, "finish_step"), (_engine, "ask_watches")]
    inside = shares(watched, read, repeats)
    again, watching = (
        (ratio(seconds, name, "plain generation")[0], *interval(seconds, name, "plain generation"))
        for name in ("plain, once more", "watched by a monitor")
    )
    write_page(
        __file__,
        "Watching",
        f"{REPLIES} replies of {TOKENS} tokens side by side, SmolLM2-135M-Instruct in {engine.info.dtype}, "
        f"a monitor of tokens at layer {watcher.layer} of {engine.info.n_layers}; {repeats} interleaved "
        "repeats. The tokens are the same in both ways. A watched reply's last token passes through the "
        f"layers up to the monitor's too: {(watcher.layer + 1) / engine.info.n_layers / TOKENS:.2%} more "
        "work. (A reply that the model ends by itself has no such pass: its last token was passed to find "
        "its end.)\n\n"
        + table(seconds, "plain generation")
        + f"\n\nWatched generation takes {watching[0]:.3f} of plain generation (95% interval of the median "
        f"{watching[1]:.3f} to {watching[2]:.3f}); plain generation measured a second time takes "
        f"{again[0]:.3f} ({again[1]:.3f} to {again[2]:.3f}). Inside a watched run, reading the layer and "
        f"asking the monitors take {statistics.median(inside):.2%} of the time ({min(inside):.2%} to "
        f"{max(inside):.2%}, {repeats} runs).",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5)
