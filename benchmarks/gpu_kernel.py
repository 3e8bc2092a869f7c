"""The first section of `gpu_transformers.py`: the Triton kernel held to the dynamic flavour.

Both flavours of the vLLM worker's runtime get the same steps (prompts, then two of decoding) and the same
random residual streams. The dynamic flavour runs on the CPU, where most tests have held it, and on the device
too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from proof import Row, check, tell
from torch import Tensor

from personascope.engines import Probe
from personascope.engines._vllm.request._limits import Limits
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.engines._vllm.request._results import Reading, read_results
from personascope.engines._vllm.request._spec import Spec
from personascope.engines._vllm.worker._runtime import Runtime
from personascope.engines._vllm.worker._static import StaticRuntime
from personascope.interventions import Ablate, Cap, Plan, Steer

LAYERS = 3

GOALS = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
"""Greatest relative error of a token, by dtype: sums in another order, of which rounding makes a last bit."""

CUT_OFF = 3e-2
"""The same for bfloat16 in Triton's interpreter, which cuts the last bits off where a GPU rounds."""

OFF = {torch.float32: 0.0, torch.bfloat16: 0.01, torch.float16: 0.01}
"""Share of the tokens that a cap moves, on which the two may differ: those that lie at the bound."""


def dynamic_runtime(
    d_model: int, device: torch.device, store: PlanStore, *, tokens: int, layers: Sequence[int]
) -> Runtime:
    """Return the flavour that touches only the tokens that are meant."""
    return Runtime(d_model=d_model, tokens=tokens, device=device, store=store, layers=layers)


def static_runtime(
    d_model: int, device: torch.device, store: PlanStore, *, tokens: int, layers: Sequence[int]
) -> Runtime:
    """Return the flavour for CUDA graphs, whose layers run the kernel."""
    return StaticRuntime(
        limits=Limits(), d_model=d_model, tokens=tokens, device=device, store=store, layers=layers
    )


def plans_for(d_model: int) -> dict[str, Plan]:
    """Return a plan of every kind, by name; about half of random tokens are beyond each bound."""
    rng = np.random.default_rng(0)
    v = np.linalg.qr(rng.standard_normal((d_model, 4)))[0].T.astype(np.float32)
    return {
        "steer": Plan((Steer(1, v[0], strength=3.0),)),
        "cap": Plan(tuple(Cap(layer, v[1], floor=0.2) for layer in range(LAYERS))),
        "several": Plan(
            (
                Steer(0, v[0], strength=-2.0, tokens="response"),
                Cap(0, v[1], ceiling=0.1),
                Ablate(1, v[2], tokens="turn:1"),
                Cap(2, v[3], floor=-0.1, ceiling=0.1, tokens="response"),
            )
        ),
        "two caps of one layer": Plan((Cap(2, v[0], floor=0.3), Cap(2, v[1], ceiling=-0.2))),
    }


def specs_for(spool: PlanStore, plans: dict[str, Plan], probes: ProbeSet) -> list[Spec | None]:
    """Return what twelve requests ask: every plan, with and without pooling and probes, and none."""
    asked = spool.put(probes)
    digests = [None, *(spool.put(plan) for plan in plans.values())]
    specs: list[Spec | None] = [None, None]
    for number in range(10):
        digest = digests[number % len(digests)]
        specs.append(
            Spec(
                f"k{number}",
                digest,
                turns=(1, 4),
                pool=number % 2 == 0,
                norms=number % 4 == 0,
                probes=asked if number % 3 == 1 else None,
            )
        )
    return specs


class Difference:
    """The greatest differences of a runtime to the one that it is held to."""

    def __init__(self) -> None:
        """Begin with none."""
        self.stream = self.sums = self.projections = 0.0
        self.edited = self.unedited = self.fired = self.off = 0
        self.bits = self.tokens = True

    def see(self, before: Sequence[Tensor], got: Sequence[Tensor], want: Sequence[Tensor]) -> None:
        """Compare (hidden, residual), or (hidden,), of a layer; all [tokens, d] on the CPU."""
        changed = torch.stack([(a != b).any(-1) for a, b in zip(before, want, strict=True)]).any(0)
        self.edited += int(changed.sum())
        self.unedited += int((~changed).sum())
        for a, b in zip(before, got, strict=True):
            self.bits &= torch.equal(_bits(a[~changed]), _bits(b[~changed]))
        self.stream = max(self.stream, _gap(_stream(got), _stream(want)))

    def read(self, got: Reading, want: Reading) -> None:
        """Compare what was counted, summed and projected for a request."""
        self.tokens &= (got.counts, got.cap_counts.tokens) == (want.counts, want.cap_counts.tokens)
        self.off += abs(got.cap_counts.capped - want.cap_counts.capped)
        for layer in got.cap_counts.fired.keys() | want.cap_counts.fired.keys():
            fired = want.cap_counts.fired.get(layer, 0)
            self.fired += fired
            self.off += abs(got.cap_counts.fired.get(layer, 0) - fired)
        for a, b in ((got.sums, want.sums), (got.norms, want.norms)):
            if a is not None and b is not None:
                self.sums = max(self.sums, _gap(torch.from_numpy(a), torch.from_numpy(b)))
        for a, b in zip(got.projections, want.projections, strict=True):
            if a.size:
                self.projections = max(self.projections, float(np.abs(a - b).max() / np.abs(b).max()))


def _stream(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack([part.float() for part in parts]).sum(0)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32 if tensor.element_size() == 4 else torch.int16)


def _gap(got: Tensor, want: Tensor) -> float:
    """Return the greatest distance of a row, relative to the longest row that it stands among."""
    got, want = got.double(), want.double()
    return float((got - want).norm(dim=-1).max() / want.norm(dim=-1).max()) if want.numel() else 0.0


@torch.inference_mode()  # as vLLM's forward passes
def compare(d_model: int, dtype: torch.dtype, *, pair: bool, device: torch.device) -> dict[str, Difference]:
    """Run the same steps through all flavours.

    Args:
        d_model: Width of the residual stream.
        dtype: Its dtype.
        pair: Whether blocks hand on (hidden, residual), or the stream alone.
        device: Where the kernel runs.

    Returns:
        What the kernel, and on a GPU the dynamic flavour too, differ from the dynamic flavour on the CPU.
    """
    cpu = torch.device("cpu")
    plans = plans_for(d_model)
    directions = np.random.default_rng(1).standard_normal((3, d_model)).astype(np.float32)
    probes = ProbeSet.of([Probe(f"p{n}", layer, directions[n]) for n, layer in enumerate((0, 2, 2))])
    prompts = [5, 6, 7, 4, 6, 5, 8, 5, 6, 7, 4, 6]
    starts = np.concatenate([[0], np.cumsum(prompts)])
    with tempfile.TemporaryDirectory() as folder:
        spool = PlanStore(folder)
        specs = specs_for(spool, plans, probes)
        place = {"tokens": int(starts[-1]) + 8, "layers": range(LAYERS)}
        reference = dynamic_runtime(d_model, cpu, spool, **place)
        others = {"kernel": static_runtime(d_model, device, spool, **place)}
        if device.type != "cpu":
            others["dynamic"] = dynamic_runtime(d_model, device, spool, **place)

        def lookup(name: str) -> tuple[int, dict[str, Any] | None]:
            spec = specs[int(name)]
            return prompts[int(name)], None if spec is None else spec.extra_args()

        found = {name: Difference() for name in others}
        draws = torch.Generator().manual_seed(d_model)
        order = list(range(len(specs)))
        for step in range(3):
            lengths = [prompts[n] if step == 0 else 1 for n in order]
            computed = np.array([0 if step == 0 else prompts[n] + step - 1 for n in order])
            ends = np.concatenate([[0], np.cumsum(lengths)])
            ids = [str(n) for n in order]
            for runtime in (reference, *others.values()):
                runtime.begin_step(ids, ends, computed, lookup)
            # Graphs run padding behind the step's tokens too.
            rows = int(ends[-1]) + 3
            for layer in range(LAYERS):
                before = [torch.randn(rows, d_model, generator=draws).to(dtype) for _ in range(1 + int(pair))]
                want = _through(reference, layer, before, cpu)
                for name, runtime in others.items():
                    found[name].see(before, _through(runtime, layer, before, runtime.device), want)
            for runtime in (reference, *others.values()):
                runtime.end_step()
            # The first step has them in one order, the two of decoding in another.
            order = list(reversed(range(len(specs))))
        keys = {str(number): spec.key for number, spec in enumerate(specs) if spec is not None}
        for name, key in keys.items():
            for runtime in (reference, *others.values()):
                runtime.finish(name)
            want_read = read_results([reference.fetch([key])])[key]
            for other, runtime in others.items():
                found[other].read(read_results([runtime.fetch([key])])[key], want_read)
    return found


def _through(runtime: Runtime, layer: int, before: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    parts = [part.to(device, copy=True) for part in before]
    runtime.layer(layer, parts[0], parts[1] if len(parts) > 1 else None)
    return [part.cpu() for part in parts]


def section(*, small: bool, seconds: float) -> None:
    """Print a row for every dtype and kind of block.

    Args:
        small: Take one narrow stream for each dtype, as for Triton's interpreter.
        seconds: When to stop, in seconds from now.
    """
    deadline = time.monotonic() + seconds
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    widths = (48,) if small else (64, 1000, 4096, 8192)
    for dtype in GOALS:
        for pair in (dtype != torch.float16,) if small else (True, False):
            kind = "(hidden, residual)" if pair else "one stream"
            what = f"{str(dtype).removeprefix('torch.')}, {kind}"
            if time.monotonic() > deadline:
                tell(Row(what, "no time was left", verdict="skipped"))
                continue
            found = {width: compare(width, dtype, pair=pair, device=device) for width in widths}
            for flavour in next(iter(found.values())):
                cut = device.type == "cpu" and dtype == torch.bfloat16
                _row(
                    f"{flavour}, {what}, d = {', '.join(map(str, widths))}",
                    [found[width][flavour] for width in widths],
                    CUT_OFF if cut else GOALS[dtype],
                    CUT_OFF if cut else OFF[dtype],
                )


def _row(what: str, parts: Sequence[Difference], goal: float, most_off: float) -> None:
    worst = max(part.stream for part in parts)
    # Sums and projections are float32 whatever the stream is, and rest on streams that differ so much.
    read = max(max(part.sums, part.projections) for part in parts)
    bits = all(part.bits for part in parts)
    off, fired = sum(part.off for part in parts), sum(part.fired for part in parts)
    counts = all(part.tokens for part in parts) and off <= most_off * fired
    edited, unedited = sum(part.edited for part in parts), sum(part.unedited for part in parts)
    tried = all(part.edited and part.unedited and part.fired for part in parts)
    check(
        what,
        f"stream {worst:.1e}, sums and projections {read:.1e}; {edited} rows edited; {unedited} unedited "
        f"rows {'bit-equal' if bits else 'NOT bit-equal'}; {off} of {fired} firings counted otherwise",
        f"errors at most {goal:g}, bits equal, at most {most_off:.0%} of firings",
        max(worst, read) <= goal and bits and counts and tried,
    )
