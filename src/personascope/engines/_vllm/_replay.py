"""Tell a request's watch what the worker saw, and hold what the worker did to what the watch says."""

from __future__ import annotations

from collections.abc import Iterator

from personascope.engines._contract import Request
from personascope.engines._vllm._submit import InFlightRequest
from personascope.engines._vllm.request._reply_spec import GateSpec
from personascope.engines._vllm.request._results import Reading
from personascope.errors import EngineError


def replay(in_flight: InFlightRequest, reading: Reading) -> None:
    """Call a request's watch on every token that it reads, as the Transformers engine does in between.

    Args:
        in_flight: Request with a watch.
        reading: Plugin's reading of the response as it ran.

    Raises:
        EngineError: If the worker did something else than what the watch asks for.
        Exception: Whatever the watch raises.
    """
    request, gate = in_flight.request, in_flight.gate
    assert request.watch is not None
    fired: tuple[str, int] | None = None
    for number, (position, row) in enumerate(_rows(reading, len(in_flight.prompt))):
        values = {probe.name: float(value) for probe, value in zip(request.probes, row, strict=True)}
        wish = request.watch(number, values)
        if wish is None:
            continue
        if gate is None or fired is not None:
            raise _unlike(request, f"acted after token {position - len(in_flight.prompt)}, and was not to")
        fired = ("stop" if wish == "stop" else wish.digest, position + 1)
    done: tuple[str, int] | None = None
    if reading.stopped is not None:
        done = "stop", reading.stopped
    elif reading.gate_at is not None and in_flight.switched is not None:
        done = in_flight.switched.digest, reading.gate_at
    if fired != done:
        raise _unlike(request, f"asked for {fired}, and the worker did {done}")


def opened(in_flight: InFlightRequest, reading: Reading | None) -> GateSpec | None:
    """Return a gate that opened in a response, with its position, for feeding the response again."""
    switched = in_flight.switched
    if reading is None or reading.gate_at is None or switched is None:
        return None
    return GateSpec(switched.digest, at=reading.gate_at)


def _rows(reading: Reading, prompt: int) -> Iterator[tuple[int, list[float]]]:
    """Yield position and projections of every response token that was read."""
    rows = reading.projections[0].tolist()
    ranges = [(prompt, prompt + len(rows))] if reading.read is None else reading.read[0]
    positions = [position for low, high in ranges for position in range(low, high)]
    yield from zip(positions, rows, strict=True)


def _unlike(request: Request, what: str) -> EngineError:
    return EngineError(
        f"the watch of request {request.id!r} {what}",
        hint="give every request a watch of its own; report this with the vLLM version if it has one",
    )
