"""Many streams of a server beside its engine driven directly: equality, throughput, what clients leave.

    python benchmarks/serve_streams.py --model smollm2-135m --engine transformers [--rounds 5]

It starts the server in a process of its own, loads the same model in this one, and measures in turns:

- 64 streams at once, 16 of them plain and 48 under 16 plans, greedy in float32. Every text must be the one
  that the engine gives to the request alone. Throughput is compared with the engine that gets all 64 at once.
- Two streams at once, one plain and one capped, as the page asks them, beside one batch of two in the engine.
- 100 clients that go away while their replies are written: nothing may stay under way.

Ratios are of the server's time to the engine's in the same round, by the clock and by CPU time (server
processes, without the client). It prints a table, and exits with 1 if a text differs, an error came, or
something stayed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from personascope import engines
from personascope.chat import Message
from personascope.engines import Request, Sampling
from personascope.interventions import Cap, Plan

STREAMS, PLANS = 64, 16
GONE = 100
SUBJECTS = ("rain", "the sea", "a lighthouse", "letters", "noon", "money", "a garden", "winter")


def made_plans(engine: Any) -> list[Plan]:
    """Return caps at eight layers, each along a direction of its own."""
    info = engine.info
    drawn = np.random.default_rng(0).standard_normal((PLANS, info.d_model)).astype(np.float32)
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    middle = info.n_layers // 2
    return [
        Plan(tuple(Cap(at, row, floor=1.0) for at in range(middle - 1, middle + 7)), None, f"bench {number}")
        for number, row in enumerate(unit)
    ]


def questions() -> list[str]:
    return [f"Tell me {number} things about {SUBJECTS[number % len(SUBJECTS)]}." for number in range(STREAMS)]


def plan_of(number: int, plans: list[Plan]) -> Plan | None:
    """Return the plan of a stream: every fourth is plain, and every plan has three streams."""
    return None if number % 4 == 0 else plans[(number - number // 4 - 1) % PLANS]


class Server:
    """A server of its own process."""

    def __init__(self, options: argparse.Namespace, plans: list[Plan], folder: Path) -> None:
        """Start it, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given: list[str] = []
        for number, plan in enumerate(plans):
            plan.save(folder / f"{number}")
            given += ["--plan", str(folder / f"{number}")]
        self.url = f"http://127.0.0.1:{port}"
        more = ["--", "--max-num-seqs", str(STREAMS), "--max-model-len", "2048"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "personascope", "serve", options.model, "--engine", options.engine),
                *("--port", str(port), "--dtype", "float32", "--default-plan", "none", *given),
                *("--plan-store", str(folder / "store"), "--max-batch", str(STREAMS)),
                *(more if options.engine == "vllm" else ()),
            ],
            stdout=(folder / "log").open("wb"),
            stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + 300
        while True:
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit((folder / "log").read_text(errors="replace")[-4000:])
            time.sleep(0.5)
        self.model = httpx.get(f"{self.url}/v1/models", timeout=30).json()["data"][0]["id"]

    def cpu(self) -> float:
        """Return the CPU time of the server's processes so far, in seconds."""
        main = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (main, *main.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    def body(self, question: str, plan: Plan | None, tokens: int) -> dict[str, Any]:
        """Return the body of a stream's request."""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": tokens,
            "stream": True,
            "personascope": {"plan": None if plan is None else plan.digest},
        }

    def streams(self, asked: list[tuple[str, Plan | None]], tokens: int) -> list[str]:
        """Ask all at once, and return the texts."""
        return asyncio.run(self._streams(asked, tokens))

    async def _streams(self, asked: list[tuple[str, Plan | None]], tokens: int) -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=600) as client:
            return await asyncio.gather(*(self._one(client, *one, tokens) for one in asked))

    async def _one(self, client: httpx.AsyncClient, question: str, plan: Plan | None, tokens: int) -> str:
        text = ""
        body = self.body(question, plan, tokens)
        async with client.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise SystemExit(f"{answer.status_code}: {(await answer.aread())[:300]!r}")
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    value = json.loads(line[6:])
                    if "error" in value:
                        raise SystemExit(line[:300])
                    text += "".join(c.get("delta", {}).get("content") or "" for c in value["choices"])
        return text

    async def leave(self) -> None:
        """Begin streams and go away from each after a few events."""
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=600) as client:

            async def one(number: int) -> None:
                body = self.body(f"{number}: {questions()[number % STREAMS]}", None, 400)
                async with client.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
                    read = 0
                    async for _ in answer.aiter_lines():
                        read += 1
                        if read > number % 9:
                            return

            await asyncio.gather(*map(one, range(GONE)))

    def left(self) -> dict[str, int]:
        """Return what is under way a while after; zeros once nothing is."""
        until = time.monotonic() + 30
        while True:
            stats = httpx.get(f"{self.url}/v1/personascope/stats", timeout=30).json()
            workers = stats.get("workers", [{}])[0]
            found = {
                "under way": stats["under_way"],
                "in the batch": stats.get("running", workers.get("requests", 0)),
                "results": workers.get("results", 0),
                "slots": workers.get("slots", 0) - workers.get("free_slots", 0),
            }
            if not any(found.values()) or time.monotonic() > until:
                return found
            time.sleep(0.2)


def direct(engine: Any, asked: list[tuple[str, Plan | None]], tokens: int) -> list[str]:
    """Return the engine's texts of requests that it gets at once."""
    requests = [
        Request(f"{n}", (Message("user", text),), Sampling(0.0, 1.0, tokens), plan=plan)
        for n, (text, plan) in enumerate(asked)
    ]
    done = {one.id: one.text for one in engine.run(requests)}
    return [done[request.id] for request in requests]


def beside(server: Server, engine: Any, asked: list[tuple[str, Plan | None]], tokens: int) -> dict[str, Any]:
    """Measure one round of both: seconds by the clock and of CPU time, and the texts."""
    cpu, clock = server.cpu(), time.perf_counter()
    texts = server.streams(asked, tokens)
    served = time.perf_counter() - clock, server.cpu() - cpu
    others = [server.process.pid, *(one.pid for one in children(server))]
    process = psutil.Process()
    own = [one for one in (process, *process.children(recursive=True)) if one.pid not in others]
    before, clock = sum(map(total, own)), time.perf_counter()
    alone = direct(engine, asked, tokens)
    took = time.perf_counter() - clock, sum(map(total, own)) - before
    return {"texts": texts, "direct": alone, "clock": served[0] / took[0], "cpu": served[1] / took[1]}


def children(server: Server) -> list[psutil.Process]:
    """Return the processes that the server started."""
    return psutil.Process(server.process.pid).children(recursive=True)


def total(process: psutil.Process) -> float:
    """Return the CPU time of a process, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def spread(values: list[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def measure(options: argparse.Namespace, folder: Path) -> int:
    engine = engines.load_engine(options.model, engine=options.engine, dtype="float32", max_batch=STREAMS)
    plans = made_plans(engine)
    server = Server(options, plans, folder)
    try:
        asked = [(text, plan_of(n, plans)) for n, text in enumerate(questions())]
        pair = [(questions()[1], None), (questions()[1], plans[0])]
        for one in (asked, pair):
            beside(server, engine, one, 4)
        alone = [direct(engine, [one], options.tokens)[0] for one in asked]
        many = [beside(server, engine, asked, options.tokens) for _ in range(options.rounds)]
        two = [beside(server, engine, pair, 2 * options.tokens) for _ in range(options.rounds)]
        wrong = [n for found in many for n, text in enumerate(found["texts"]) if text != alone[n]]
        wrong_two = sum(found["texts"] != found["direct"] for found in two)
        asyncio.run(server.leave())
        left = server.left()
    finally:
        server.process.terminate()
        server.process.wait(60)
        close = getattr(engine, "close", None)
        if close is not None:
            close()
    planned = sum(plan is not None for _, plan in asked)
    print(f"\n## {options.model}, engine {options.engine}, float32, greedy\n")
    print(f"{options.rounds} rounds, in turns; {platform.processor() or platform.machine()}, "
          f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads.\n")  # fmt: skip
    print("| what | found | asked for |\n|---|---|---|")
    print(f"| {STREAMS} streams ({planned} under {PLANS} plans): texts unlike the run alone "
          f"| {len(wrong)} of {STREAMS * options.rounds} | 0 |")  # fmt: skip
    for name, key in (("by the clock", "clock"), ("CPU time", "cpu")):
        rates = [1 / found[key] for found in many]
        print(f"| their throughput beside the engine's, {name} | {spread(rates)} | at least 0.95 |")
    for name, key in (("by the clock", "clock"), ("CPU time", "cpu")):
        print(f"| both columns beside one batch of two, {name} "
              f"| {spread([found[key] for found in two])} | at most 1.1 |")  # fmt: skip
    print(f"| rounds of both columns with another text | {wrong_two} of {options.rounds} | 0 |")
    told = ", ".join(f"{name} {value}" for name, value in left.items())
    print(f"| {GONE} clients that went away left | {told} | 0 |", flush=True)
    return 1 if wrong or wrong_two or any(left.values()) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return measure(options, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
