"""Create judges from specifications, as the command line gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from personascope.errors import UsageError
from personascope.judge._chain import THEN, JudgeChain
from personascope.judge._contract import Judge
from personascope.judge._offline import RulesJudge
from personascope.judge.local._judge import LocalJudge
from personascope.judge.remote._endpoint import Endpoint, split_address
from personascope.judge.remote._judge import OpenAIJudge, OpenAIOptions

FORMS = (
    "rules, openai:MODEL@BASE_URL (as in openai:gpt-4.1-mini@https://api.openai.com/v1), local:MODEL, none"
)
_LOADING = ("dtype", "device", "device_map", "attn_implementation", "trust_remote_code")
_LOCAL = ("batch_size",)


def check_judge(
    spec: str,
    *,
    fallback: str | None = None,
    fallback_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Check a specification without creating its judge, which may load a model.

    For the arguments see `parse_judge`.

    Raises:
        UsageError: If the specification, an option or a server's address is one that `parse_judge` refuses.
    """
    for one, given in _links(spec, fallback, options, fallback_options):
        _check_one(one, given)


def parse_judge(
    spec: str,
    *,
    fallback: str | None = None,
    fallback_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Judge | None:
    """Create the judge that a specification names.

    Args:
        spec: Specification of the judge. ``rules`` is the offline judge, with rules for the 0-3 score and a
            trained classifier for other rubrics. ``openai:MODEL@BASE_URL`` is a model behind an
            OpenAI-compatible server. ``local:MODEL`` is any model that `personascope.models.load` finds.
            ``none`` is no judge. Several with "then" between them make a chain (`JudgeChain`).
        fallback: Specification of a second judge, asked for what the first refuses, filters, or cannot label.
        fallback_options: Options of the second judge, and of all judges after a "then".
        options: Options of the first judge. For ``openai`` they are the fields of `OpenAIOptions`; for
            ``local`` ``batch_size`` and ``dtype``, ``device``, ``device_map``, ``attn_implementation``,
            ``trust_remote_code`` as `personascope.models.load` takes them; the dtype is by default
            "bfloat16" where the device computes in it, else "float32". An option that is None counts as not
            given.

    Raises:
        UsageError: If the specification is none of these, a part of a chain is ``none``, an option does not
            belong to a judge, or a server's address cannot be used.
        JudgeError: If a judge cannot work, for example with a damaged cache file or a local model without a
            chat template.
        ModelError: If a local model cannot be loaded.
    """
    links = _links(spec, fallback, options, fallback_options)
    for one, given in links:
        # Check all judges before any of them loads a model.
        _check_one(one, given)
    judges = [_make(one, given) for one, given in links]
    if len(judges) == 1:
        return judges[0]
    return JudgeChain([judge for judge in judges if judge is not None])


def _links(
    spec: str,
    fallback: str | None,
    options: Mapping[str, Any],
    fallback_options: Mapping[str, Any] | None,
) -> list[tuple[str, dict[str, Any]]]:
    """Return each judge of a chain with its options."""
    first, *later = spec.strip().split(THEN)
    later += [] if fallback is None else fallback.strip().split(THEN)
    if later and "none" in (first.strip(), *(one.strip() for one in later)):
        raise UsageError(
            "a chain of judges has none in it", hint="leave the second judge out, or name one that labels"
        )
    if fallback_options and not later:
        raise UsageError(
            f"the second judge's {', '.join(sorted(fallback_options))} is given, and no second judge",
            hint="add --fallback-judge",
        )
    given = {name: value for name, value in options.items() if value is not None}
    more = {name: value for name, value in (fallback_options or {}).items() if value is not None}
    return [(first.strip(), given), *((one.strip(), more) for one in later)]


def _check_one(spec: str, given: Mapping[str, Any]) -> None:
    if not re.fullmatch(r"rules|none|openai:.+?@https?://.+|local:.+", spec):
        raise UsageError(f"there is no judge {spec!r}", hint=f"give one of: {FORMS}")
    kind = spec.partition(":")[0]
    known: Sequence[str] = ()
    if kind == "openai":
        known = [field.name for field in fields(OpenAIOptions)]
    elif kind == "local":
        known = (*_LOADING, *_LOCAL)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f"the judge {spec!r} takes no option {', '.join(unknown)}",
            hint=f"it takes {', '.join(sorted(known))}" if known else "it takes none",
        )
    if kind == "openai":
        chosen = OpenAIOptions(**given)
        address = split_address(spec.partition(":")[2])[1]
        Endpoint(address, api_key=chosen.api_key, headers=chosen.headers)


def _make(spec: str, given: Mapping[str, Any]) -> Judge | None:
    kind, _, rest = spec.partition(":")
    if kind in ("rules", "none"):
        return RulesJudge() if kind == "rules" else None
    if kind == "openai":
        model, address = split_address(rest)
        return OpenAIJudge(model, address, OpenAIOptions(**given))
    # Import here, because only this judge needs torch.
    from personascope.engines import native_dtype
    from personascope.models import load

    loading: dict[str, Any] = {"dtype": native_dtype(given.get("device"))}
    loading |= {name: given[name] for name in _LOADING if name in given}
    loaded = load(rest, **loading)
    return LocalJudge(loaded, **{name: given[name] for name in _LOCAL if name in given})
