"""Conversion of Inspect's generation options to `Sampling`; unsupported options are refused."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import GenerateConfig

from personascope.engines import Sampling
from personascope.errors import UsageError

_HONOURED = frozenset({"temperature", "top_p", "max_tokens", "stop_seqs", "seed"})
# Options that Inspect handles itself around a call, or that have no effect on a local model.
_AROUND = frozenset(
    {
        "adaptive_connections",
        "attempt_timeout",
        "batch",
        "cache",
        "cache_prompt",
        "fail_on_refusal",
        "internal_tools",
        "max_connections",
        "max_retries",
        "max_tool_output",
        "parallel_tool_calls",
        "reasoning_history",
        "stream_idle_timeout",
        "system_message",
        "timeout",
    }
)
# Values at which an option has no effect.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "num_choices": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": ([], ["text"]),
    "extra_body": ({},),
    "extra_headers": ({},),
}


def sampling_of(config: GenerateConfig) -> tuple[Sampling, int]:
    """Return the sampling options and the seed of a response.

    Missing options default to those of `Sampling`, and the seed to 0.

    Raises:
        UsageError: If an option is not supported by the engines, or unknown (for example from a later
            Inspect).
    """
    given = {name: value for name, value in config if value is not None}
    refused = sorted(
        f"{name}={value!r}"
        for name, value in given.items()
        if name not in _HONOURED | _AROUND and value not in _NEUTRAL.get(name, ())
    )
    if refused:
        raise UsageError(
            f"the generation options {', '.join(refused)} cannot be honoured",
            hint=f"leave them out; {', '.join(sorted(_HONOURED))} are honoured",
        )
    usual = Sampling()
    sampling = Sampling(
        temperature=given.get("temperature", usual.temperature),
        top_p=given.get("top_p", usual.top_p),
        max_new_tokens=given.get("max_tokens", usual.max_new_tokens),
        stop=tuple(dict.fromkeys(filter(None, given.get("stop_seqs", ())))),
    )
    return sampling, int(given.get("seed", 0))
