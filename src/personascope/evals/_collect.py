"""Requests to an engine, each of which must come back once and under its own plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from personascope.engines import Completion, Engine, Request
from personascope.errors import EngineError
from personascope.evals._batcher import check_applied


def collect(
    engine: Engine, requests: Iterable[Request], each: Callable[[Completion], None]
) -> dict[str, Completion]:
    """Run requests and return their completions by id.

    Args:
        engine: The model.
        requests: With ids that differ.
        each: Called after each completion.

    Raises:
        EngineError: If one comes back without its plan, twice, not at all, or was never asked for.
    """
    asked = {request.id: request for request in requests}
    got: dict[str, Completion] = {}
    if not asked:
        return got
    for completion in engine.run(asked.values()):
        if completion.id not in asked or completion.id in got:
            raise EngineError(
                f"the engine returned {completion.id!r}, which was not (or no longer) asked for",
                mend="report this; nothing of the batch was kept",
            )
        check_applied(completion.id, asked[completion.id].plan, completion.plan_digest)
        got[completion.id] = completion
        each(completion)
    absent = asked.keys() - got.keys()
    if absent:
        raise EngineError(
            f"the engine returned nothing for {len(absent)} of {len(asked)} requests, "
            f"such as {min(absent)!r}",
            mend="run the same command again; what was committed is kept",
        )
    return got
