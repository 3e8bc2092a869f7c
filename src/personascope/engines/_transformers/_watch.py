"""Call each request's watch on the token that was just fed, and apply its decision."""

from __future__ import annotations

from collections.abc import Sequence

from personascope.engines._checks import ModelShape, check_plan
from personascope.engines._transformers._rows import Row
from personascope.errors import EngineError
from personascope.interventions import CapCounters, Plan, acts_on_response


def ask_watches(
    rows: Sequence[Row], counters: CapCounters, model: ModelShape
) -> tuple[frozenset[int], frozenset[int]]:
    """Call the rows' watches with the newest projections; return the rows to end, and those with a new gate.

    Raises:
        EngineError: If a watch returns an invalid value, or its plan cannot act on this response.
    """
    stopped: set[int] = set()
    gated: set[int] = set()
    for place, row in enumerate(rows):
        request = row.queued.request
        if request.watch is None or not row.just_heard:
            continue
        values = dict(zip((probe.name for probe in request.probes), row.projections[-1], strict=True))
        wish = request.watch(row.shown, values)
        row.shown += 1
        if wish is None:
            continue
        if wish == "stop":
            stopped.add(place)
            continue
        _check_gate(row, wish, model)
        row.fold(counters, place)
        row.open_gate(wish)
        gated.add(place)
    return frozenset(stopped), frozenset(gated)


def _check_gate(row: Row, wish: object, model: ModelShape) -> None:
    name = f"the watch of request {row.queued.request.id!r}"
    if not isinstance(wish, Plan):
        raise EngineError(
            f"{name} returned {wish!r}"[:200], hint='a watch returns None, "stop" or a personascope Plan'
        )
    if row.gate is not None:
        raise EngineError(
            f"{name} switched on a second plan, at token {row.fed} after one at token {row.gate_from}",
            hint="return a plan once in a response, and None from then on",
        )
    check_plan(name, wish, row.queued.request.prompt, model)
    if not acts_on_response(wish):
        raise EngineError(
            f"{name} switched on a plan that acts on the prompt alone, which has passed",
            hint="make its operations act on all tokens or on the response",
        )
