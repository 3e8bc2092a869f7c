"""Two workers against one, each an actor with SmolLM2 and its share of the cores.

"one engine" is in this process and has all cores. All ways answer the same requests with as many tokens each:
nobody stops early.
"""

from __future__ import annotations

from importlib.metadata import version

from paired import interleave, ratio, table, write_page

from personascope.chat import Message
from personascope.corpus import load_corpus
from personascope.engines import Capture, Engine, Request, Sampling, load_engine

REQUESTS = 256
TOKENS = 48
REPEATS = 3
BATCH = 64
MODEL = "smollm2-135m"


def main() -> None:
    corpus = load_corpus()
    sampling = Sampling(max_new_tokens=TOKENS, min_new_tokens=TOKENS)
    wanted = [
        Request(
            f"r{number}",
            (
                Message("system", corpus.roles[number // 8].prompts[0]),
                Message("user", corpus.questions[number % 8].text),
            ),
            sampling,
            capture=Capture(),
        )
        for number in range(REQUESTS)
    ]
    engines = {
        "one engine": load_engine(MODEL, max_batch=BATCH),
        "one worker": load_engine(MODEL, max_batch=BATCH, workers=1, address="local"),
        "two workers": load_engine(MODEL, max_batch=BATCH, workers=2),
    }

    def run(engine: Engine) -> None:
        assert sum(completion.token_count for completion in engine.run(wanted)) == REQUESTS * TOKENS

    ways = {name: lambda engine=engine: run(engine) for name, engine in engines.items()}
    seconds = interleave(ways, REPEATS)
    middle, low, high = ratio(seconds, "two workers", "one worker")
    write_page(
        __file__,
        "What workers bring",
        f"SmolLM2-135M-Instruct, {REQUESTS} requests of {TOKENS} tokens with all layers pooled, batch "
        f"{BATCH} in each engine, Ray {version('ray')}; {REPEATS} interleaved repeats.\n\n"
        + table(seconds, "one worker")
        + f"\n\nTwo workers take {middle:.3f} of the time of one "
        f"({low:.3f} to {high:.3f}).",
    )


if __name__ == "__main__":
    main()
