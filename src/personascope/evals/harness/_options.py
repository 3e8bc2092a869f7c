"""Conversion of the harness's generation options to `Sampling`; unsupported options are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personascope.engines import Sampling
from personascope.errors import UsageError

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_READ = ("until", "do_sample", "temperature", "top_p", *_LENGTHS)
# Options that have no effect at these values, which configurations of other models may spell out.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "n": (1,),
    "top_k": (0, -1, None),
    "min_p": (0, None),
    "typical_p": (1, None),
    "repetition_penalty": (1, None),
    "length_penalty": (1, None),
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "no_repeat_ngram_size": (0, None),
    "use_cache": (True,),
}


def sampling_of(options: Mapping[str, Any], *, max_gen_toks: int) -> Sampling:
    """Return the sampling options of one request.

    Decoding is greedy unless ``do_sample`` is set or the temperature is above 0. ``do_sample`` without a
    temperature means 1, as in Transformers.

    Args:
        options: The task's ``generation_kwargs``, with the command line's changes.
        max_gen_toks: Maximum response length if the options name none.

    Raises:
        UsageError: If an option is unknown or contradicts another, because a task must run as it specifies.
    """
    unknown = [
        f"{name}={value!r}"
        for name, value in options.items()
        if name not in _READ and value not in _NEUTRAL.get(name, ())
    ]
    if unknown:
        raise UsageError(
            f"the generation options {', '.join(sorted(unknown))} cannot be honoured",
            hint=f"leave them out (--gen_kwargs changes them), or use {', '.join(_READ)}",
        )
    lengths = {name: options[name] for name in _LENGTHS if options.get(name) is not None}
    if len({int(value) for value in lengths.values()}) > 1:
        raise UsageError(
            f"the generation options name several lengths: {lengths}",
            hint=f"keep {next(iter(lengths))} alone",
        )
    temperature = options.get("temperature")
    sample = options.get("do_sample")
    if temperature is None:
        temperature = 1.0 if sample else 0.0
    temperature = float(temperature)
    if sample and temperature == 0:
        raise UsageError(
            "the generation options ask to sample at temperature 0",
            hint="set do_sample=False, or a temperature above 0",
        )
    if sample is False:
        # The harness may keep an earlier configuration's temperature next to do_sample=False.
        temperature = 0.0
    return Sampling(
        temperature=temperature,
        top_p=float(options.get("top_p") or 1.0),
        max_new_tokens=int(next(iter(lengths.values()), max_gen_toks)),
        stop=_stops(options.get("until")),
    )


def _stops(until: Any) -> tuple[str, ...]:
    stops = [until] if isinstance(until, str) else list(until or [])
    odd = [stop for stop in stops if not isinstance(stop, str)]
    if odd:
        raise UsageError(f"the generation option until holds {odd!r}", hint="give texts to stop at")
    return tuple(dict.fromkeys(filter(None, stops)))
