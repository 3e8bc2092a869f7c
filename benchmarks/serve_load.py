"""Load a server at capacity, beside the same server with requests that have no plan.

    python benchmarks/serve_load.py URL --model NAME --seconds 600 --clients 16 --plan NAME

Both halves run on one server, in alternating slices of a tenth of the time, so that a machine that slows down
slows both. Requests are streams, their prompts are drawn with a seed, and their lengths are fixed
(``ignore_eos`` where the server takes it). Printed are, for either half: requests, errors, tokens a second,
p50 and p99 of the time to the first text and between texts; the ratio of the throughputs; and with ``--pid``
and ``--beside-pid`` the resident memory of the servers' process trees over time. Exit code 1 if a request
failed.

The server without personascope is measured by giving its URL as ``--beside``; then the slices alternate
between the two servers, and the plan is named on the first only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import psutil

WORDS = [
    *("river", "stone", "lamp", "winter", "market", "bridge", "letter", "garden", "engine", "paper"),
    *("harbour", "clock", "meadow", "copper", "window", "thunder", "orchard", "ladder"),
]
SLICES = 10


@dataclass
class Half:
    """What was measured of one half."""

    seconds: float = 0.0
    tokens: int = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """Return the figures, as JSON values."""

        def quantile(values: list[float], q: float) -> float | None:
            return round(float(np.quantile(values, q)), 4) if values else None

        return {
            "requests": self.requests,
            "errors": len(self.errors),
            "tokens_per_second": round(self.tokens / self.seconds, 2) if self.seconds else None,
            "first_p50": quantile(self.first, 0.5),
            "first_p99": quantile(self.first, 0.99),
            "between_p50": quantile(self.between, 0.5),
            "between_p99": quantile(self.between, 0.99),
        }


async def ask(client: httpx.AsyncClient, base: str, body: dict[str, Any], half: Half) -> None:
    """Send one stream, and note its times."""
    begun = last = time.perf_counter()
    seen = 0
    half.requests += 1
    try:
        async with client.stream("POST", f"{base}/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                half.errors.append(f"{answer.status_code}: {(await answer.aread())[:200]!r}")
                return
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                value = json.loads(line[6:])
                if "error" in value:
                    half.errors.append(line[:200])
                    return
                texts = [choice.get("delta", {}).get("content") for choice in value["choices"]]
                half.tokens += (value.get("usage") or {}).get("completion_tokens", 0)
                if any(texts):
                    now = time.perf_counter()
                    (half.between if seen else half.first).append(now - last)
                    last, seen = now, seen + 1
        half.ends.append(time.perf_counter() - begun)
        if not half.tokens:
            half.errors.append("a stream told no usage")
    except httpx.HTTPError as error:
        half.errors.append(repr(error))


async def load(args: argparse.Namespace, base: str, plan: Any, until: float, half: Half, seed: int) -> None:
    """Keep every client busy until the slice is over; what is under way then ends."""
    headers = {"Authorization": f"Bearer {args.api_key}"} if args.api_key else {}
    limits = httpx.Limits(max_connections=args.clients)

    async def client_loop(client: httpx.AsyncClient, number: int) -> None:
        draw = random.Random(f"{seed}/{number}")
        while time.perf_counter() < until:
            body: dict[str, Any] = {
                "model": args.model,
                "messages": [{"role": "user", "content": " ".join(draw.choices(WORDS, k=args.words))}],
                "max_tokens": args.tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            if args.ignore_eos:
                body["ignore_eos"] = True
            if plan is not OMIT:
                body["personascope"] = {"plan": plan}
            await ask(client, base, body, half)

    begun = time.perf_counter()
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=600) as client:
        await asyncio.gather(*(client_loop(client, number) for number in range(args.clients)))
    half.seconds += time.perf_counter() - begun


OMIT = object()


def memory(pid: int | None) -> float | None:
    """Return the resident memory of a process and its children, in MiB."""
    if pid is None:
        return None
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 2**20


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    with_plan, without = Half(), Half()
    resident = [[memory(args.pid), memory(args.beside_pid)]]
    length = args.seconds / SLICES / 2
    slices: list[float] = []
    for number in range(SLICES):
        rates: list[float] = []
        for half, base, plan in (
            (with_plan, args.url, args.plan),
            (without, args.beside or args.url, OMIT if args.beside else None),
        ):
            tokens, seconds = half.tokens, half.seconds
            await load(args, base, plan, time.perf_counter() + length, half, number)
            rates.append((half.tokens - tokens) / (half.seconds - seconds))
        slices.append(rates[1] / rates[0] if rates[0] else float("nan"))
        resident.append([memory(args.pid), memory(args.beside_pid)])
    ahead, beside = with_plan.shown(), without.shown()
    ratio = None
    if ahead["tokens_per_second"] and beside["tokens_per_second"]:
        ratio = round(beside["tokens_per_second"] / ahead["tokens_per_second"], 3)
    return {
        "plan": ahead,
        "plain": beside,
        "ratio": ratio,
        "by_slice": f"by slice {np.median(slices):.3f}, {min(slices):.3f} to {max(slices):.3f}",
        "memory_mib": [[None if one is None else round(one) for one in pair] for pair in resident],
        "first_errors": [*with_plan.errors[:3], *without.errors[:3]],
    }


def table(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    names = {
        "requests": "requests",
        "errors": "errors",
        "tokens_per_second": "tokens a second",
        "first_p50": "first text, p50, seconds",
        "first_p99": "first text, p99, seconds",
        "between_p50": "between texts, p50, seconds",
        "between_p99": "between texts, p99, seconds",
    }
    other = "the same server without personascope" if args.beside else "the same server, no plan"
    lines = [f"| | with a plan | {other} |", "|---|---|---|"]
    lines += [f"| {text} | {found['plan'][key]} | {found['plain'][key]} |" for key, text in names.items()]
    lines += ["", f"Ratio of the throughputs, without to with: {found['ratio']} ({found['by_slice']})."]
    if args.pid:
        lines += ["", "| after | resident memory, MiB | of the other server |", "|---|---|---|"]
        for number, (mine, theirs) in enumerate(found["memory_mib"]):
            seconds = args.seconds * number / SLICES
            lines.append(f"| {seconds:.0f} s | {mine} | {'-' if theirs is None else theirs} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--model", required=True)
    parser.add_argument("--plan", required=True, help="name or digest of the plan of the first half")
    parser.add_argument("--beside", help="address of the same server without personascope")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--words", type=int, default=24)
    parser.add_argument("--ignore-eos", action="store_true", help="for vLLM: replies of equal length")
    parser.add_argument("--api-key")
    parser.add_argument("--pid", type=int, help="process of the server, whose memory is read")
    parser.add_argument("--beside-pid", type=int, help="process of the other server")
    args = parser.parse_args()
    found = asyncio.run(measure(args))
    print(json.dumps(found, indent=2))
    print(f"\n{table(args, found)}", flush=True)
    return 1 if found["plan"]["errors"] or found["plain"]["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
