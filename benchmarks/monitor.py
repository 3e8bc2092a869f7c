"""What it costs to watch every token of every reply at one layer, beside plain generation."""

from __future__ import annotations

import sys
from pathlib import Path

from paired import interleave, ratio, table, write_page

from personascope.corpus.evals import load_chats
from personascope.dynamics import Monitor
from personascope.engines import Completion, Probe, Request, Sampling, load_engine
from personascope.mapping import MAP
from personascope.space import PersonaMap

REPEATS = 11
REPLIES = 64
TOKENS = 48


def main(run: Path, monitor: Path) -> None:
    found = PersonaMap.open(run / MAP)
    engine = load_engine(found.model.id)
    watcher = Monitor.load(monitor)
    probe = Probe("axis", watcher.layer, found.unit_axis(watcher.layer))
    asked = [chat[:1] for chat in load_chats().chats if chat[0].role == "user"]
    # Nobody stops early, so that every way makes as many tokens.
    how = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)

    def requests() -> list[Request]:
        return [Request(f"r{n}", asked[n % len(asked)], how) for n in range(REPLIES)]

    def plain() -> list[Completion]:
        return list(engine.run(requests()))

    def projected() -> list[Completion]:
        return list(engine.run(Request(r.id, r.prompt, how, probes=(probe,)) for r in requests()))

    def watched() -> list[Completion]:
        return list(
            engine.run(
                Request(r.id, r.prompt, how, probes=(probe,), watch=watcher.fresh().watch("axis"))
                for r in requests()
            )
        )

    assert [c.token_ids for c in sorted(plain(), key=lambda c: c.id)] == [
        c.token_ids for c in sorted(watched(), key=lambda c: c.id)
    ]
    seconds = interleave(
        {"plain generation": plain, "projected on one direction": projected, "watched by a monitor": watched},
        REPEATS,
    )
    middle, low, high = ratio(seconds, "watched by a monitor", "plain generation")
    write_page(
        __file__,
        "Watching",
        f"{REPLIES} replies of {TOKENS} tokens side by side, SmolLM2-135M-Instruct in {engine.info.dtype}, "
        f"a monitor of tokens at layer {watcher.layer}; {REPEATS} interleaved repeats. The tokens are the "
        "same in all ways.\n\n"
        + table(seconds, "plain generation")
        + f"\n\nWatched generation takes {middle:.3f} of plain generation ({low:.3f} to {high:.3f}).",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
