"""What a run would take: rollouts, tokens, disk, memory, money and time."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from personascope.engines import Engine, EngineInfo, ScoreRequest
from personascope.judge import Estimate as JudgeEstimate
from personascope.judge import Judge, JudgeChain, OpenAIJudge
from personascope.mapping._design import DEFAULT, Design
from personascope.mapping._plan import slots_of

ROW_BYTES = 160
TOKEN_BYTES = 1.7
"""Compressed Parquet: of a row without its text, and of each token of the text (English)."""


@dataclass(frozen=True, slots=True)
class DiskEstimate:
    """Bytes on the disk at the end of a run; upper bounds, but for the text.

    Attributes:
        sums: Float32 sums of the roles and the default.
        map: The persona map: both vectors of every role, and the axis and its like.
        kept: The kept sample of pooled activations in bfloat16.
        rollouts: Text and scores.
        transient: What a run needs beyond that while it goes on.
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
    """What a run would take.

    Attributes:
        rollouts: Responses.
        prompt_tokens: Tokens of all prompts, from a sample.
        response_tokens: Tokens of all responses, from the probe, or the limit without one.
        disk: Bytes on the disk.
        memory: Bytes that the run needs beside the engine.
        judge: Tokens and cost of judging, in a chain of judges by the first; None if it makes no calls.
        seconds: Time for generation and role information, from the probe; None without one.
        ended: Share of the probe's responses that ended by themselves; None without one.
    """

    rollouts: int
    prompt_tokens: int
    response_tokens: int
    disk: DiskEstimate
    memory: int
    judge: JudgeEstimate | None
    seconds: float | None
    ended: float | None


def estimate_disk(
    info: EngineInfo, design: Design, *, judged: bool = True, mean_tokens: float | None = None
) -> DiskEstimate:
    """Estimate the disk that a run folder takes.

    Args:
        info: The engine's: layers and width.
        design: The run's.
        judged: Whether there is a judge, so that there are responses of more than one bucket.
        mean_tokens: Mean length of a response; by default the limit.
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
    """Estimate what a run would take, from a probe of a few of its own requests.

    Args:
        engine: The engine; it generates the probe.
        design: The run's.
        judge: The judge, if any.
        probe: Requests to generate, spread over the design; 0 for an estimate without time.

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
    items = len(design) - design.n_default
    pooled = engine.info.n_layers * engine.info.d_model * 4
    first = judge.judges[0] if isinstance(judge, JudgeChain) else judge
    return RunEstimate(
        rollouts=len(design),
        prompt_tokens=round(prompts * len(design)),
        response_tokens=round(tokens * len(design)),
        disk=estimate_disk(engine.info, design, judged=judge is not None, mean_tokens=tokens),
        # Two units wait in memory, and the sums of one role are added up at a time.
        memory=min(2 * design.unit_size, len(design)) * pooled + 3 * (design.n_folds + 3) * pooled,
        judge=first.estimate(items, context + chars) if isinstance(first, OpenAIJudge) else None,
        seconds=seconds,
        ended=ended,
    )
