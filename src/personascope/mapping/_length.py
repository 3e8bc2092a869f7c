"""Choice of the maximum response length by a short probe before the run.

A response that is cut off early is incomplete, but a small model may go on for hundreds of tokens without
saying anything new. The probe therefore generates a few long responses, and takes the shortest length at
which either most of them have ended, or their pooled activations hardly change any more.
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
"""Number of responses in the probe, spread over the design."""
ENDED = 0.6
"""Share of responses that must end within a length for it to suffice."""
ENOUGH = 0.8
"""Correlation of the pooled activations with those of the long responses that suffices instead."""
STEP = 1.25
"""Factor between consecutive lengths that are tried."""


@dataclass(frozen=True, slots=True)
class Length:
    """Result of the length probe.

    Attributes:
        max_new_tokens: Chosen maximum response length, in tokens.
        ended: Share of the probe's responses that ended within it.
        correlation: Mean cosine between the centred pooled activations at this length and those of the same
            responses at the longest length (middle layer).
    """

    max_new_tokens: int
    ended: float
    correlation: float


def find_length(engine: Engine, design: Design, longest: int) -> Length:
    """Find the shortest sufficient response length, starting from the profile's.

    Args:
        engine: Engine that generates the probe, from requests of the run itself.
        design: Design of the run, whose profile gives the shortest length to try.
        longest: Longest length to try, which is taken if no shorter one suffices.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    layer = engine.info.n_layers // 2
    requests = [design.request(rollout) for rollout in design.spread(RESPONSES)]

    # The thinking budget is the same at every length, so that the thinking does not differ.
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
        # Sampling uses the same seeds, so these are the first tokens of the same responses.
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
    """Return whether a profile determines the response length by a probe."""
    return profile.longest is not None and profile.longest > profile.max_new_tokens


def stored_length(out: Path, profile: Profile) -> int | None:
    """Return the response length of the run in a folder, if it is of this profile; else None.

    A resumed run must use the same length, and this avoids repeating the probe. Return None for a profile
    without a probe.
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
