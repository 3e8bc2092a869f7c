"""How long a response may become: a short probe, before the run.

A response that is cut off early is a beginning, not an answer. Yet a small model may write on for hundreds of
tokens and say nothing new. So the probe lets a few responses run long, and takes the shortest length at
which either most of them end by themselves, or what they are pooled to hardly changes any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from personascope.engines import THINKING_TOKENS, Capture, Completion, Engine
from personascope.errors import StoreError
from personascope.mapping._design import Design
from personascope.mapping._profile import Profile
from personascope.store import read_json

RESPONSES = 32
"""Responses of the probe, spread over the design."""
ENDED = 0.6
"""Share of responses that must end by themselves."""
ENOUGH = 0.8
"""Or the correlation of what was pooled so far with what the long responses are pooled to."""
STEP = 1.25
"""Factor from one length that is tried to the next."""


@dataclass(frozen=True, slots=True)
class Length:
    """What the probe found.

    Attributes:
        max_new_tokens: The length to generate at most.
        ended: Share of the probe's responses that ended by themselves within it.
        correlation: Mean cosine of their pooled activations, about their mean, with those of the same
            responses at the longest length (middle layer).
    """

    max_new_tokens: int
    ended: float
    correlation: float


def find_length(engine: Engine, design: Design, longest: int) -> Length:
    """Find the shortest length, from the profile's on, that lets responses end or say enough.

    Args:
        engine: Generates the probe: the run's own requests, which it will generate again.
        design: The run's; its profile's length is the shortest that is tried.
        longest: The longest, taken if nothing shorter will do.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    layer = engine.info.n_layers // 2
    requests = [design.request(rollout) for rollout in design.spread(RESPONSES)]

    # Responses of every length think alike.
    thinking = design.profile.max_thinking_tokens or THINKING_TOKENS * longest

    def run(length: int) -> dict[str, Completion]:
        asked = [
            replace(
                request,
                sampling=replace(request.sampling, max_new_tokens=length, max_thinking_tokens=thinking),
                capture=Capture((layer,)),
                logprobs=False,
            )
            for request in requests
        ]
        return {completion.id: completion for completion in engine.run(asked)}

    whole = run(longest)
    length = min(design.profile.max_new_tokens, longest)
    while length < longest:
        ended = float(
            np.mean([c.finish_reason == "stop" and c.token_count <= length for c in whole.values()])
        )
        # The same draws as before: the first tokens of the same responses.
        correlation = _agreement(run(length), whole)
        if ended >= ENDED or correlation >= ENOUGH:
            return Length(length, ended, correlation)
        length = min(longest, round(length * STEP))
    ended = float(np.mean([c.finish_reason == "stop" for c in whole.values()]))
    return Length(longest, ended, 1.0)


def _agreement(some: dict[str, Completion], whole: dict[str, Completion]) -> float:
    pairs = [(some[id].pooled, whole[id].pooled) for id in whole]
    both = [(a[0], b[0]) for a, b in pairs if a is not None and b is not None]
    if len(both) < 2:
        return 0.0
    first, second = (np.stack(side).astype(np.float64) for side in zip(*both, strict=True))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.mean((first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1.0)))


def probes(profile: Profile) -> bool:
    """Return whether a profile leaves the length of responses to a probe."""
    return profile.longest is not None and profile.longest > profile.max_new_tokens


def stored_length(out: Path, profile: Profile) -> int | None:
    """Return the length that the run in a folder was made with, if it is one of this profile.

    Without it the run could not be taken up again but by the probe that began it. None, too, for a profile
    whose length is not left to a probe.
    """
    if not probes(profile):
        return None
    try:
        identity = read_json(out / "manifest.json").get("identity", {})
    except StoreError:
        return None
    stored = identity.get("profile")
    if not isinstance(stored, dict) or not isinstance(stored.get("max_new_tokens"), int):
        return None
    if stored.get("name") == profile.name and stored.get("longest") == profile.longest:
        return int(stored["max_new_tokens"])
    return None
