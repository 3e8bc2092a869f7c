"""Cost estimate of a run: rollouts, tokens, disk, memory, money and time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from personascope.engines import Engine, EngineInfo, ScoreRequest
from personascope.judge import Estimate as JudgeEstimate
from personascope.judge import Judge, JudgeChain, OpenAIJudge
from personascope.mapping._adaptive import AdaptiveDesign
from personascope.mapping._design import DEFAULT, Design
from personascope.mapping._expect import Expected, expected_size
from personascope.mapping._plan import slots_of

ROW_BYTES = 160
TOKEN_BYTES = 1.7
"""Bytes of compressed Parquet per row without its text, and per token of (English) text."""


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """Disk use of a run, in bytes; upper bounds except for the text.

    Attributes:
        sums: Float32 sums of the roles and the default.
        map: Persona map: the vectors of every role, the axis, and similar arrays.
        kept: Kept sample of pooled activations, in bfloat16.
        rollouts: Texts and scores.
        transient: Additional temporary space during the run.
    """

    sums: int
    map: int
    kept: int
    rollouts: int
    transient: int

    @property
    def total(self) -> int:
        """Bytes at the end of the run."""
        return self.sums + self.map + self.kept + self.rollouts


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """Cost estimate of a run.

    Attributes:
        rollouts: Number of responses.
        prompt_tokens: Number of tokens in all prompts, extrapolated from a sample.
        response_tokens: Number of tokens in all responses, extrapolated from the probe; an upper bound
            without one.
        disk: Disk use.
        memory: Memory of the run in bytes, without the engine.
        judge: Tokens and cost of judging (by the first judge of a chain); None if it calls no server.
        seconds: Time for generation and role information, extrapolated from the probe; None without one.
        ended: Share of the probe's responses that ended before the length limit; None without a probe.
        expected: How many of these responses an adaptive run will ask; None for a fixed design, or if only a
            budget of time or money is given.
    """

    rollouts: int
    prompt_tokens: int
    response_tokens: int
    disk: DiskEstimate
    memory: int
    judge: JudgeEstimate | None
    seconds: float | None
    ended: float | None
    expected: Expected | None = None


def estimate_disk(
    info: EngineInfo, design: Design, *, judged: bool = True, mean_tokens: float | None = None
) -> DiskEstimate:
    """Estimate the disk use of a run folder.

    Args:
        info: Engine information: layers and width.
        design: Design of the run.
        judged: Whether a judge scores responses, which splits them into several buckets.
        mean_tokens: Mean response length, in tokens; the maximum length by default.
    """
    layer = info.n_layers * info.d_model
    n_roles = len(design.roles)
    if judged or design.profile.role_information:
        slots = slots_of(design)
    else:
        slots = [min(design.n_folds, design.size(group + 1)) for group in range(n_roles)]
    default = min(design.n_folds, design.n_default)
    keep = len(design) if design.profile.keep == "all" else min(design.profile.keep, len(design))
    tokens = design.profile.max_new_tokens if mean_tokens is None else mean_tokens
    unit_slots = min(design.unit_size, (max(slots, default=0) + default) * 2)
    return DiskEstimate(
        sums=(sum(slots) + default) * layer * 4,
        map=((2 if judged else 1) * n_roles + 4) * layer * 4,
        kept=keep * layer * 2,
        rollouts=round(len(design) * (ROW_BYTES + TOKEN_BYTES * tokens)),
        transient=(unit_slots * 8) * layer * 4,
    )


def estimate(engine: Engine, design: Design, *, judge: Judge | None, probe: int = 32) -> RunEstimate:
    """Estimate the cost of a run from a probe of a few of its requests.

    Args:
        engine: Engine that generates the probe.
        design: Design of the run.
        judge: Judge, or None.
        probe: Number of requests to generate, spread over the design (at least 32 are used); 0 for an
            estimate without time.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    sample = design.spread(max(probe, 32))
    prompts = sum(engine.count_tokens(design.conversation(rollout)) for rollout in sample) / len(sample)
    tokens, chars, seconds, ended = float(design.profile.max_new_tokens), 0.0, None, None
    if probe:
        start = time.monotonic()
        completions = list(engine.run([design.request(rollout) for rollout in sample]))
        if design.profile.role_information:
            by_id = {rollout.id: rollout for rollout in sample}
            deque(
                engine.score(
                    ScoreRequest(done.id, design.plain_conversation(by_id[done.id]), done.token_ids)
                    for done in completions
                    if done.token_ids
                ),
                maxlen=0,
            )
        ended = sum(done.finish_reason == "stop" for done in completions) / len(completions)
        seconds = (time.monotonic() - start) / len(completions) * len(design)
        tokens = sum(len(completion.token_ids) for completion in completions) / len(completions)
        chars = sum(len(completion.text) for completion in completions) / len(completions)
    else:
        chars = tokens * 4.2
    asked = [rollout for rollout in sample if rollout.role != DEFAULT]
    context = sum(
        len(design.system_prompt(rollout))
        + len(design.corpus.questions[rollout.question_index].text)
        + len(design.role(rollout.role).description)
        for rollout in asked
    ) / max(len(asked), 1)
    expected = None
    if isinstance(design, AdaptiveDesign) and (design.until.goals or design.until.tokens):
        expected = expected_size(design, tokens)
    items = len(design) - design.n_default
    pooled = engine.info.n_layers * engine.info.d_model * 4
    first = judge.judges[0] if isinstance(judge, JudgeChain) else judge
    return RunEstimate(
        rollouts=len(design),
        prompt_tokens=round(prompts * len(design)),
        response_tokens=round(tokens * len(design)),
        disk=estimate_disk(engine.info, design, judged=judge is not None, mean_tokens=tokens),
        # Two units are in memory, and the sums of one role at a time.
        memory=min(2 * design.unit_size, len(design)) * pooled + 3 * (design.n_folds + 3) * pooled,
        judge=first.estimate(items, context + chars) if isinstance(first, OpenAIJudge) else None,
        seconds=seconds,
        ended=ended,
        expected=expected,
    )
