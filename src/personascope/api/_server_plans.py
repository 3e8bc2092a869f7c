"""Default plan and policy of a server, checked before a model is loaded."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from personascope.engines import Policy
from personascope.errors import UsageError
from personascope.interventions import Plan

KEY = "VLLM_API_KEY"
"""Environment variable with the key that clients must send, as for a server of vLLM."""


def names_of(given: Sequence[Plan | Path | str], plans: Sequence[Plan]) -> Iterator[tuple[str, str]]:
    """Yield name and digest of plans: their own names, then the names of their folders.

    Args:
        given: Plans or their folders.
        plans: The same, read.
    """
    known: set[str] = set()
    for one, plan in zip(given, plans, strict=True):
        folder = "" if isinstance(one, Plan) else Path(one).resolve().name
        for name in (plan.name, folder):
            # A name that is taken stays with the plan that had it first.
            if name and name not in known and name != "none":
                known.add(name)
                yield name, plan.digest


def default_of(
    plans: Sequence[Plan], names: Mapping[str, str], wanted: str | None, *, require_plan: bool
) -> Plan | None:
    """Return the plan of requests that name none: the wanted one, or the plan if there is exactly one.

    Raises:
        UsageError: If it is none of the given plans, or one is required and there is none.
    """
    by_digest = {plan.digest: plan for plan in plans}
    found: Plan | None = None
    if wanted is None:
        found = next(iter(by_digest.values())) if len(by_digest) == 1 else None
    elif wanted != "none":
        found = by_digest.get(names.get(wanted, wanted))
        if found is None:
            raise UsageError(
                f"--default-plan {wanted!r} is none of the plans",
                hint="name a plan that --plan gives, or none",
            )
    if require_plan and found is None:
        raise UsageError(
            "--require-plan needs a plan that is required",
            hint="give one --plan, or say which by --default-plan",
        )
    return found


def check_policy(policy: Policy, known: Collection[str], api_key: str | None) -> None:
    """Check that a policy fits the plans and the key of a server.

    Args:
        policy: Policy.
        known: Names and digests of the given plans.
        api_key: Key of the server, or None.

    Raises:
        UsageError: If it speaks of another plan, or there are keys in two places.
    """
    if policy.keys and (api_key or os.environ.get(KEY)):
        raise UsageError(
            f"the policy has keys, and so has {'--api-key' if api_key else KEY}",
            hint="leave that out: the keys of the policy are asked for",
        )
    names = {*known, *policy.aliases}
    for name in (*policy.aliases.values(), *(name for rules in policy.all_rules for name in rules.pinned)):
        short = len(name) >= 8 and any(digest.startswith(name) for digest in known)
        if name not in names and not short:
            raise UsageError(
                f"the policy speaks of the plan {name!r}, which is none of the plans",
                hint="give it by --plan, under its name, its folder's name, or its digest",
            )
