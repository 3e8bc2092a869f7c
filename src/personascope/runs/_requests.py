"""Engine requests, with checks that each returns exactly once and under its own plan."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import overload

from personascope.engines import Completion, Engine, Request, Scored, ScoreRequest
from personascope.errors import EngineError
from personascope.interventions import Plan


def check_applied(name: str, plan: Plan | None, digest: str | None) -> None:
    """Check that a result was computed under the requested plan.

    Raises:
        EngineError: If it was another plan; the message names both.
    """
    wanted = None if plan is None else plan.digest
    if wanted != digest:
        raise EngineError(
            f"request {name} asked for {_named(wanted)}, and the engine applied {_named(digest)}",
            hint="use an engine that applies plans; this result was thrown away",
        )


def _named(digest: str | None) -> str:
    return "no plan" if digest is None else f"the plan {digest[:12]}"


@overload
def run_requests(engine: Engine, requests: Iterable[Request]) -> Generator[Completion]: ...
@overload
def run_requests(
    engine: Engine, requests: Iterable[Request | ScoreRequest]
) -> Generator[Completion | Scored]: ...
def run_requests(
    engine: Engine, requests: Iterable[Request | ScoreRequest]
) -> Generator[Completion | Scored]:
    """Run or score requests, and yield results as they arrive.

    Leaving the iteration early stops the engine.

    Args:
        engine: Engine of the model.
        requests: Requests with distinct ids, all of one kind (`Request` or `ScoreRequest`).

    Raises:
        EngineError: If a result comes back without its plan, twice, not at all, or without a request.
    """
    asked = {request.id: request for request in requests}
    if not asked:
        return
    left = dict(asked)
    results: Iterator[Completion] | Iterator[Scored]
    if isinstance(next(iter(asked.values())), ScoreRequest):
        results = engine.score([request for request in asked.values() if isinstance(request, ScoreRequest)])
    else:
        results = engine.run([request for request in asked.values() if isinstance(request, Request)])
    try:
        for result in results:
            request = left.pop(result.id, None)
            if request is None:
                raise EngineError(
                    f"the engine returned {result.id!r}, which was not (or no longer) asked for",
                    hint="report this; nothing of the batch was kept",
                )
            check_applied(result.id, request.plan, result.plan_digest)
            yield result
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            close()
    if left:
        raise EngineError(
            f"the engine returned nothing for {len(left)} of {len(asked)} requests, such as {min(left)!r}",
            hint="run the same command again; what was committed is kept",
        )
