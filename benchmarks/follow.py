"""A conversation of 30 messages projected as it grows: read once, or anew at every reply.

Each way projects every reply, on the axis of the map at its middle layer, as soon as it is there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from paired import interleave, ratio, table, write_page

from personascope.chat import Conversation, Message
from personascope.corpus.dialogues import load_domain
from personascope.dynamics.conversations import sample_scenarios
from personascope.engines import Probe, Request, Sampling, load_engine
from personascope.mapping import MAP
from personascope.space import PersonaMap

EXCHANGES = 15
REPEATS = 5


def main(run: Path) -> None:
    persona_map = PersonaMap.open(run / MAP)
    engine = load_engine(persona_map.model.id)
    layer = persona_map.middle_layer
    probes = (Probe("axis", layer, persona_map.unit_axis(layer)),)
    talk = conversation(engine)

    def anew() -> list[np.ndarray]:
        return [
            engine.observe(talk[: 2 * n], probes=probes)[-1].projections["axis"]
            for n in range(1, EXCHANGES + 1)
        ]

    def follow() -> list[np.ndarray]:
        follower = engine.follow(probes=probes)
        return [follower.read(talk[: 2 * n])[-1].projections["axis"] for n in range(1, EXCHANGES + 1)]

    def whole() -> list[np.ndarray]:
        turns = engine.observe(talk, probes=probes)
        return [turn.projections["axis"] for turn in turns if turn.role == "assistant"]

    seconds = interleave(
        {"read anew at every reply": anew, "followed": follow, "read once, at the end": whole}, REPEATS
    )
    once, again = follow(), whole()
    means = np.array([[a.mean(), b.mean()] for a, b in zip(once, again, strict=True)])
    spread = float(np.concatenate(again).std())
    exact = load_engine(persona_map.model.id, dtype="float32")
    truth = np.array(
        [t.projections["axis"].mean() for t in exact.observe(talk, probes=probes) if t.role == "assistant"]
    )
    tokens, times = growth(engine, talk, probes)
    slope, start = np.polyfit(tokens, times, 1)
    fit = 1 - np.var(times - (slope * tokens + start)) / np.var(times)
    middle, low, high = ratio(seconds, "read anew at every reply", "followed")
    apart = np.abs(means[:, 0] - means[:, 1]).max()
    off = np.abs(means[:, 1] - truth).max()
    write_page(
        __file__,
        "A conversation that grows",
        f"{2 * EXCHANGES} messages, {int(tokens[-1]):,} tokens, SmolLM2-135M-Instruct in "
        f"{engine.info.dtype}, projections at layer {layer}; {REPEATS} interleaved repeats.\n\n"
        + table(seconds, "followed")
        + f"\n\nFollowing is {middle:.1f} times as fast as reading anew ({low:.1f} to {high:.1f}). Time "
        f"against tokens read so far, over the 15 replies: {1e3 * slope:.2f} ms a token, R2 of the straight "
        f"line {fit:.4f}.\n\n"
        f"Means of the replies, followed against one pass over all: they differ by {apart:.4f} at most, "
        f"where one pass in bfloat16 is {off:.4f} off float32 (the tokens' projections have a standard "
        f"deviation of {spread:.2f}).",
    )


def conversation(engine) -> Conversation:
    (scenario, *_) = sample_scenarios([load_domain("writing")], 1)
    talk: tuple[Message, ...] = ()
    for turn, said in enumerate(scenario.script(0)[:EXCHANGES]):
        talk = (*talk, Message("user", said))
        (reply,) = engine.run([Request(str(turn), talk, Sampling(max_new_tokens=96))])
        talk = (*talk, Message("assistant", reply.text or "Yes."))
    return talk


def growth(engine, talk: Conversation, probes) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens read so far and seconds so far after each reply; the median of several readings."""
    runs = []
    for _ in range(REPEATS):
        follower, begun, times, tokens = engine.follow(probes=probes), time.perf_counter(), [], []
        for n in range(1, EXCHANGES + 1):
            follower.read(talk[: 2 * n])
            times.append(time.perf_counter() - begun)
            tokens.append(follower.tokens_fed)
        runs.append(times)
    return np.array(tokens), np.median(np.array(runs), axis=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
