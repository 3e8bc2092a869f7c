"""The second section of `gpu_transformers.py`: the kernel inside recorded CUDA graphs, and its cost there.

A stack of decoder blocks of Llama's shape (random weights, no rotary embedding, no head: whatever is left out
makes the ratios larger) decodes one token for each row of a batch. A step is recorded as a CUDA graph once
without the kernel and once for each way to use it, while no request is under way: what a graph does
afterwards rests on the data in the runtime's buffers alone. A measured step is the worker's: begin, replay,
end.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_kernel import dynamic_runtime, static_runtime
from gpu_stack import After, Shape, Stack, shape_for
from paired import interval, ratio
from proof import Row, check, cost, tell
from torch import Tensor

from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.interventions import Cap, Plan

CAPPED = 8
PLANS = 64
BASE, AGAIN = "without the kernel", "without the kernel, again"
IDLE, FEW, CAPS = "idle", f"idle, the kernel after {CAPPED} blocks", f"caps at {CAPPED} layers"
POOLED, MANY, MIXED = "all layers pooled", f"{PLANS} plans of caps at {CAPPED} layers", "mixed"
WAYS = {IDLE: 1.005, FEW: None, CAPS: 1.01, POOLED: 1.05, MANY: 1.02}
"""What a step may take at most against the same graph without the kernel, by way; None for no goal."""

ROUNDS = (15, 400)
"""Fewest and most rounds of interleaved steps."""


@dataclass(slots=True, eq=False)
class Step:
    """One recorded step of decoding.

    Attributes:
        replay: Runs it.
        hidden: Where its results lie, [batch, d].
        residual: The same.
    """

    replay: Callable[[], object]
    hidden: Tensor
    residual: Tensor

    def stream(self) -> Tensor:
        """Return a copy of the residual stream behind the last block, [batch, d] float32."""
        return self.hidden.float() + self.residual.float()


def record(stack: Stack, x: Tensor, after: After | None = None, layers: Sequence[int] = ()) -> Step:
    """Record a step as a CUDA graph; on a CPU, return one that runs anew each time.

    Args:
        stack: The stack.
        x: Embeddings of the step's tokens, [batch, d].
        after: Is called after some blocks, as `Stack.forward` says.
        layers: Numbers of those blocks.
    """
    if x.device.type == "cpu":
        return eager_step(stack, x, after, layers)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            stack.forward(x, after, layers)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        hidden, residual = stack.forward(x, after, layers)
    return Step(graph.replay, hidden, residual)


def eager_step(stack: Stack, x: Tensor, after: After | None, layers: Sequence[int]) -> Step:
    """Return a step that runs anew each time; arguments as for `record`."""
    hidden, residual = torch.empty_like(x), torch.empty_like(x)

    def run() -> None:
        for kept, new in zip((hidden, residual), stack.forward(x, after, layers), strict=True):
            kept.copy_(new)

    return Step(run, hidden, residual)


class Requests:
    """Requests under way in a runtime, whose every step decodes one token for each.

    Args:
        runtime: The worker's runtime.
        specs: What each request asks, None for nothing.
        prompt: Tokens of each prompt, which have passed.
    """

    def __init__(self, runtime: Runtime, specs: Sequence[Spec | None], prompt: int) -> None:
        """Have nothing admitted before the first step."""
        self.runtime, self.specs, self.prompt = runtime, specs, prompt
        self.ids = [f"r{number}" for number in range(len(specs))]
        self.starts = np.arange(len(specs) + 1)
        self.computed = np.full(len(specs), prompt)
        self.host: list[float] = []

    def step(self, run: Callable[[], object]) -> None:
        """Run one step as the worker does, and note the host's seconds for what stands around it."""
        first = time.perf_counter()
        self.runtime.begin_step(self.ids, self.starts, self.computed, self._lookup)
        begun = time.perf_counter()
        run()
        ran = time.perf_counter()
        self.runtime.end_step()
        self.host.append(begun - first + time.perf_counter() - ran)
        self.computed = self.computed + 1

    def _lookup(self, name: str) -> tuple[int, Mapping[str, Any] | None]:
        spec = self.specs[self.ids.index(name)]
        return self.prompt, None if spec is None else spec.extra_args()

    def end(self) -> dict[str, Reading]:
        """End all requests; return what was read from those that asked for something, by key."""
        for name in self.ids:
            self.runtime.finish(name)
        # The next forward pass is none of theirs.
        self.runtime.idle()
        keys = [spec.key for spec in self.specs if spec is not None]
        return read_results([self.runtime.fetch(keys)]) if keys else {}


class Worker:
    """Plans, runtimes and specs of every way to use the kernel on a stack."""

    def __init__(self, shape: Shape, device: torch.device, folder: str) -> None:
        """Write the plans into a folder."""
        self.shape, self.device = shape, device
        self.store = PlanStore(folder)
        self.layers = range(shape.n_layers)
        self.capped = self.layers[max(0, (shape.n_layers - CAPPED) // 2) :][:CAPPED]
        rng = np.random.default_rng(0)
        # Random streams have about the norm sqrt(d): all of them lie far below the floor.
        floor = 0.3 * shape.d_model**0.5
        directions = rng.standard_normal((PLANS, shape.d_model)).astype(np.float32)
        self.plans = [
            self.store.put(Plan(tuple(Cap(layer, direction, floor=floor) for layer in self.capped)))
            for direction in directions
        ]

    def runtime(self, layers: Sequence[int], *, static: bool = True) -> Runtime:
        """Return a runtime for some layers, for graphs or the dynamic one."""
        shape = self.shape
        make = static_runtime if static else dynamic_runtime
        return make(shape.d_model, self.device, self.store, tokens=shape.tokens, layers=layers)

    def requests(self, runtime: Runtime, way: str, batch: int) -> Requests:
        """Return a batch of requests that ask for what a way of `WAYS` says, or for mixed things."""
        return Requests(runtime, self._specs(way, batch), self.shape.context - 1)

    def _specs(self, way: str, batch: int) -> list[Spec | None]:
        numbers = range(batch)
        if way in (IDLE, FEW):
            return [None] * batch
        if way == CAPS:
            return [Spec(f"k{n}", self.plans[0]) for n in numbers]
        if way == POOLED:
            return [Spec(f"k{n}", pool=True) for n in numbers]
        if way == MANY:
            return [Spec(f"k{n}", self.plans[n % PLANS]) for n in numbers]
        assert way == MIXED
        # A quarter capped, a quarter pooled, a quarter both; the rest plain.
        return [
            Spec(f"k{n}", self.plans[n % PLANS] if n % 2 else None, pool=n % 4 > 1) if n % 4 else None
            for n in numbers
        ]


@torch.inference_mode()  # as vLLM's forward passes
def section(*, small: bool, seconds: float) -> None:
    """Print the rows of the graphs' checks and of their costs.

    Args:
        small: Take a toy and run it as it is: there are neither graphs nor times worth a row.
        seconds: When to stop, in seconds from now.
    """
    deadline = time.monotonic() + seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = (6,) if small else (1, 8, 64, 256)
    shape = shape_for(device, batch=max(batches))
    stack = Stack(shape, device, batch=max(batches))
    tell(Row("the stack", shape.described()))
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(shape, device, folder)
        _hold(worker, stack, batch=6 if small else 64)
        if small:
            tell(Row("costs", "a CPU has no CUDA graphs: the steps above ran eagerly", verdict="skipped"))
            return
        runtimes = {way: worker.runtime(worker.capped if way == FEW else worker.layers) for way in WAYS}
        for number, batch in enumerate(batches):
            left = deadline - time.monotonic()
            # Recording takes a part of it.
            share = 0.7 * left / (len(batches) - number)
            if share < 3:
                tell(Row(f"batch {batch}", "no time was left", verdict="skipped"))
                continue
            _cost(worker, stack, runtimes, batch, share)


def _hold(worker: Worker, stack: Stack, batch: int) -> None:
    """Check replayed graphs: idle against one without the kernel, and mixed against the dynamic flavour."""
    x, steps = stack.inputs(batch), 3
    base, again = record(stack, x), record(stack, x)
    static = worker.runtime(worker.layers)
    armed = record(stack, x, static.layer, worker.layers)
    for step in (base, again):
        step.replay()
    idle = worker.requests(static, IDLE, batch)
    idle.step(armed.replay)
    idle.end()
    plain = base.stream()
    # Whether products come out alike to the last bit from one replay to the next is the library's affair.
    exact = bool(torch.equal(plain, again.stream()))
    same = bool(torch.equal(plain, armed.stream()))
    check(
        f"idle kernel, batch {batch}",
        f"{'bit-equal to' if same else 'NOT bit-equal to'} the graph without it; two graphs without it "
        f"{'are' if exact else 'are not'} bit-equal",
        "as equal as two graphs without it",
        same or not exact,
    )
    dynamic = worker.runtime(worker.layers, static=False)
    eager = eager_step(stack, x, dynamic.layer, worker.layers)
    got, want = worker.requests(static, MIXED, batch), worker.requests(dynamic, MIXED, batch)
    for _ in range(steps):
        got.step(armed.replay)
        want.step(eager.replay)
    stream, held = armed.stream(), eager.stream()
    capped = torch.tensor([spec is not None and spec.plan is not None for spec in got.specs])
    moved = _gap(held[capped], plain[capped])
    gap = _gap(stream[capped], held[capped])
    kept = bool(torch.equal(stream[~capped], plain[~capped]))
    limit = 1e-4 if stack.dtype == torch.float32 else 3e-2
    check(
        f"caps in replays of a graph that was recorded idle, batch {batch}",
        f"{gap:.1e} from the dynamic flavour, eager; the caps move the stream by {moved:.2f}; rows without a "
        f"plan {'bit-equal' if kept else 'NOT bit-equal'} to the graph without the kernel",
        f"at most {limit:g}, a tenth of the move, bits equal",
        gap <= min(limit, moved / 10) and (kept or not exact),
    )
    read, wanted = got.end(), want.end()
    pairs = [(read[key].mean(0, worker.layers), wanted[key].mean(0, worker.layers)) for key in wanted]
    means = [
        _gap(torch.from_numpy(a), torch.from_numpy(b)) for a, b in pairs if a is not None and b is not None
    ]
    counts = all(read[key].counts == wanted[key].counts for key in wanted)
    check(
        f"means that {steps} replays pooled, batch {batch}",
        f"{max(means, default=float('nan')):.1e} from the dynamic flavour, eager; tokens counted "
        f"{'equal' if counts else 'NOT equal'}",
        f"at most {limit:g}, counts equal",
        bool(means) and max(means) <= limit and counts,
    )


def _gap(got: Tensor, want: Tensor) -> float:
    got, want = got.double(), want.double()
    return float(((got - want).norm(dim=-1) / want.norm(dim=-1)).max())


def _cost(worker: Worker, stack: Stack, runtimes: Mapping[str, Runtime], batch: int, seconds: float) -> None:
    x = stack.inputs(batch)
    ways: dict[str, Callable[[], object]] = {name: record(stack, x).replay for name in (BASE, AGAIN)}
    requests = {way: worker.requests(runtime, way, batch) for way, runtime in runtimes.items()}
    for way, under_way in requests.items():
        step = record(stack, x, runtimes[way].layer, worker.capped if way == FEW else worker.layers)
        ways[way] = lambda under_way=under_way, step=step: under_way.step(step.replay)
    taken = interleave_replays(ways, seconds)
    rounds = len(taken[BASE])
    base = statistics.median(taken[BASE])
    tell(Row(f"batch {batch}: {BASE}", f"{1e3 * base:.3f} ms a step, {rounds} rounds"))
    for way in (AGAIN, *WAYS):
        middle, _, _ = ratio(taken, way, BASE)
        what = f"{way}, of which {batch} are under way" if way == MANY and batch < PLANS else way
        cost(f"batch {batch}: {what}", middle, *interval(taken, way, BASE), WAYS.get(way))
    host = max(statistics.median(under_way.host) for under_way in requests.values())
    tell(Row(f"batch {batch}: work of the host around a step, slowest way", f"{1e6 * host:.0f} microseconds"))
    pooled = requests[POOLED]
    torch.cuda.synchronize()
    begun = time.perf_counter()
    pooled.end()
    admit, end = (1e3 * spent / batch for spent in (pooled.host[0], time.perf_counter() - begun))
    what = f"batch {batch}: work of the host for a request whose layers are all pooled"
    tell(Row(what, f"{admit:.2f} ms to admit it, {end:.2f} ms to end and fetch it"))
    for under_way in requests.values():
        if under_way is not pooled:
            under_way.end()


def interleave_replays(ways: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Run all ways in turn, in an order drawn anew each round, and return the device's seconds of each."""
    order = random.Random(0)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for _ in range(3):
            way()
    torch.cuda.synchronize()
    begun = time.monotonic()
    least, most = ROUNDS
    for number in range(most):
        if number >= least and time.monotonic() - begun > seconds:
            break
        # While this one runs, the host gets ahead: its calls stand in nobody's way then.
        ways[BASE]()
        marks: dict[str, tuple[Any, Any]] = {}
        for name in order.sample(list(ways), len(ways)):
            with _between() as marks[name]:
                ways[name]()
        torch.cuda.synchronize()
        for name, (start, stop) in marks.items():
            taken[name].append(start.elapsed_time(stop) / 1e3)
    return taken


@contextmanager
def _between() -> Iterator[tuple[Any, Any]]:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    yield start, stop
    stop.record()
