"""Judges by name, as the command line gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from personascope.errors import UsageError
from personascope.judge._contract import Judge
from personascope.judge._offline import RulesJudge
from personascope.judge.local._judge import LocalJudge
from personascope.judge.remote._endpoint import split_address
from personascope.judge.remote._judge import OpenAIJudge, OpenAIOptions

FORMS = (
    "rules, openai:MODEL@BASE_URL (as in openai:gpt-4.1-mini@https://api.openai.com/v1), local:MODEL, none"
)
_LOADING = ("dtype", "device", "device_map", "attn_implementation", "trust_remote_code")
_LOCAL = ("batch_size",)


def check_judge(spec: str) -> None:
    """Check a specification without making its judge, which may load a model.

    Raises:
        UsageError: If it names no judge.
    """
    if not re.fullmatch(r"rules|none|openai:.+?@https?://.+|local:.+", spec.strip()):
        raise UsageError(f"there is no judge {spec!r}", hint=f"give one of: {FORMS}")


def parse_judge(spec: str, **options: Any) -> Judge | None:
    """Make the judge that a specification names.

    Args:
        spec: ``rules`` for the offline judge: rules for the 0-3 score, a trained classifier for the
            labels of other rubrics; ``openai:MODEL@BASE_URL`` for a model behind an
            OpenAI-compatible server; ``local:MODEL`` for anything that `personascope.models.load`
            finds; ``none`` for no judge.
        options: For ``openai`` the fields of `OpenAIOptions`; for ``local`` ``batch_size`` and
            ``dtype``, ``device``, ``device_map``, ``attn_implementation``, ``trust_remote_code``
            as `personascope.models.load` takes them. An option that is None counts as not given.

    Raises:
        UsageError: If the specification is none of these, or an option does not belong to it.
        JudgeError: If the judge cannot work: a damaged cache file, a local model without a chat template.
        ModelError: If a local model cannot be loaded.
    """
    given = {name: value for name, value in options.items() if value is not None}
    check_judge(spec)
    kind, _, rest = spec.strip().partition(":")
    if kind in ("rules", "none"):
        _check(spec, given, ())
        return RulesJudge() if kind == "rules" else None
    if kind == "openai":
        _check(spec, given, [field.name for field in fields(OpenAIOptions)])
        model, address = split_address(rest)
        return OpenAIJudge(model, address, OpenAIOptions(**given))
    _check(spec, given, (*_LOADING, *_LOCAL))
    # Torch is loaded for this judge alone.
    from personascope.models import load

    loaded = load(rest, **{name: given[name] for name in _LOADING if name in given})
    return LocalJudge(loaded, **{name: given[name] for name in _LOCAL if name in given})


def _check(spec: str, given: Iterable[str], known: Iterable[str]) -> None:
    known = sorted(known)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UsageError(
            f"the judge {spec!r} takes no option {', '.join(unknown)}",
            hint=f"it takes {', '.join(known)}" if known else "it takes none",
        )
