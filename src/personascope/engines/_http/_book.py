"""The plans that requests may name: by digest, by its beginning, by name, or written inline."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from personascope.engines._contract import EngineInfo
from personascope.engines._http._errors import StatusError
from personascope.engines._http._policy import INLINE_PLANS, NO_PLAN, Policy, Quota, Rules
from personascope.engines._vllm.request._plan_store import PlanStore, ProbeSet
from personascope.errors import EngineError, InterventionError, UsageError
from personascope.interventions import Plan

SHORTEST = 8
"""Minimum number of digits of a short digest."""

MOST_INLINE = 256
"""Maximum number of inline plans that are kept in memory."""

INLINE = 'write {"cap": {"percentile": 75, "layers": [12, 20]}} or {"steer": -0.2}'


class PlanMaker(Protocol):
    """Maker of plans from a map."""

    @property
    def norms(self) -> Any:
        """Mean norms, [L]; None if steering is not offered."""
        ...

    def cap(self, value: Any) -> Plan:
        """Return the cap of an inline plan."""
        ...

    def steer(self, value: Any) -> Plan:
        """Return the steering of an inline plan."""
        ...

    def override(self, plan: Plan, value: Any) -> Plan:
        """Return a plan with another floor or strength."""
        ...


class PlanBook:
    """Plans of a server, by digest, short digest and name.

    Args:
        store: Store of plans by digest.
        check: Function that raises an EngineError if a plan does not fit the served model.
        maker: Maker of inline plans; None without a map.
        default: Name or digest of the plan of requests that name none; None for no plan.
        store_inline: Whether inline plans are stored, because the engine reads plans from the store.
    """

    def __init__(
        self,
        store: PlanStore,
        check: Callable[[Plan], None],
        maker: PlanMaker | None = None,
        default: str | None = None,
        *,
        store_inline: bool = False,
    ) -> None:
        """Begin with the plans in the store, which have no names yet."""
        self.store = store
        self.check = check
        self.maker = maker
        self.default: Plan | None = None
        self.quota = Quota()
        self._names: dict[str, str] = {}
        self._inline: dict[str, Plan] = {}
        self._pinned: dict[str, Plan] = {}
        # The store's memory, the names and the inline plans are shared by the threads of requests.
        self._lock = threading.Lock()
        self._default = default
        self._store_inline = store_inline

    def add(self, plan: Plan, *names: str) -> str:
        """Check and store a plan under its own name and others; return its digest.

        Raises:
            EngineError: If the plan does not fit the model.
            StoreError: If it cannot be written.
        """
        self.check(plan)
        self.check_room(plan)
        # This is a new store, which looks whether the entry is damaged, and is shared with no other thread.
        digest = PlanStore(self.store.folder).put(plan)
        self.name(digest, plan.name, *names)
        return digest

    def name(self, digest: str, *names: str) -> None:
        """Name a stored plan; a name that is taken stays with the plan that had it first."""
        with self._lock:
            for name in names:
                if name and name != NO_PLAN:
                    self._names.setdefault(name, digest)

    def use_default(self) -> None:
        """Resolve the default plan.

        Raises:
            EngineError: If there is no such plan.
        """
        self.default = None if self._default is None else self.resolve(self._default)

    def apply(self, policy: Policy) -> None:
        """Name the policy's aliases, find the plans that its rules speak of, and take over its quota.

        A plan that is found here stays the same for the rules, and cannot be deleted.

        Raises:
            UsageError: If the policy speaks of a plan that does not exist.
        """
        self.quota = policy.quota
        for alias, name in policy.aliases.items():
            self.name(self._pin(name).digest, alias)
        for rules in policy.all_rules:
            for name in rules.pinned:
                self._pin(name)

    def _pin(self, name: str) -> Plan:
        try:
            plan = self.resolve(name)
        except EngineError as error:
            raise UsageError(
                f"the policy speaks of the plan {name!r}: {error.message}", hint="give it by --plan"
            ) from error
        assert plan is not None
        self._pinned[name] = plan
        return plan

    def plan_of(self, rules: Rules) -> Plan | None:
        """Return the plan of requests that name none."""
        return self.default if rules.first is None else self._first(rules.first)

    def _first(self, name: str) -> Plan | None:
        return None if name == NO_PLAN else self._pinned[name]

    def choose(self, field: Mapping[str, Any], rules: Rules) -> Plan | None:
        """Return the plan under which a request runs; None for no plan.

        Args:
            field: The request's field, of which ``plan`` and ``override`` are read.
            rules: Rules of the request's key.

        Raises:
            StatusError: 403 if the rules do not allow that plan.
            EngineError: If there is no such plan, or it does not fit the model.
            UsageError: If an inline plan or an override is malformed.
        """
        plan = self.resolve(field["plan"]) if "plan" in field else self.plan_of(rules)
        change = field.get("override")
        if change is not None:
            plan = self._changed(plan, change)
        self._check_allowed(plan, rules, written=isinstance(field.get("plan"), Mapping) or change is not None)
        return plan

    def _check_allowed(self, plan: Plan | None, rules: Rules, *, written: bool) -> None:
        """Check that a key may run requests under a plan.

        Raises:
            StatusError: 403 if not.
        """
        whose = f"the key {rules.name!r}" if rules.name else "this server"
        what = "no plan" if plan is None else f"the plan {plan.name or plan.digest[:12]}"[:100]
        if rules.require_plan is None and rules.plans is None:
            return
        required = None if rules.require_plan is None else self._pinned[rules.require_plan]
        named = [name for name in rules.plans or () if name in self._pinned]
        digests = {self._pinned[name].digest for name in named}
        if required is not None:
            digests.add(required.digest)
            if plan is None or plan.digest not in digests:
                # A plan that the command line requires is required by its digest.
                name = required.name if rules.require_plan == required.digest else rules.require_plan
                raise StatusError(
                    403,
                    f"{whose} runs every request under the plan {name} ({required.digest[:12]}), "
                    f"which a request cannot change to {what}\n"
                    f"  -> leave plan out{', or name ' + ' or '.join(named) if named else ''}",
                )
            return
        digests |= {one.digest for one in (self.plan_of(rules),) if one is not None}
        words = rules.plans or ()
        allowed = NO_PLAN in words if plan is None else plan.digest in digests
        if plan is None and self.plan_of(rules) is None:
            allowed = True
        if not allowed and not (written and INLINE_PLANS in words):
            raise StatusError(403, f"{whose} does not allow {what}\n  -> allowed are {', '.join(words)}")

    def _changed(self, plan: Plan | None, change: Any) -> Plan:
        if plan is None:
            raise UsageError("an override needs a plan that it changes", hint="name one in plan")
        if self.maker is None:
            raise UsageError("an override needs the map of the model", hint="start the server with --map")
        maker, key = self.maker, f"{plan.digest} {json.dumps(change, sort_keys=True, default=str)}"
        return self._made(key, lambda: maker.override(plan, change))

    def check_room(self, entry: Plan | ProbeSet) -> None:
        """Check that an entry fits into the quota of the store, unless it is there already.

        Raises:
            StatusError: 403 if it does not.
        """
        kind = Plan if isinstance(entry, Plan) else ProbeSet
        most = self.quota.plans if kind is Plan else self.quota.probes
        if most is None:
            return
        # A store of its own, because this is called in the threads of uploads.
        kept = PlanStore(self.store.folder).digests(kind)
        if len(kept) >= most and entry.digest not in kept:
            name = "plans" if kind is Plan else "probe sets"
            raise StatusError(403, f"the store holds {len(kept)} {name}, its quota\n  -> delete one first")

    def is_pinned(self, digest: str) -> bool:
        """Return whether the policy or the default speaks of a plan, so that it cannot be deleted."""
        kept = [*self._pinned.values(), *(filter(None, (self.default,)))]
        return any(plan.digest == digest for plan in kept)

    def names(self) -> list[dict[str, Any]]:
        """Return the named plans, as JSON values."""
        with self._lock:
            digests = dict.fromkeys(self._names.values())
            plans = {digest: self.store.plan(digest) for digest in digests}
            known = [(name, digest) for name, digest in self._names.items()]
        return [
            {
                "name": next(name for name, whose in known if whose == digest),
                "names": [name for name, whose in known if whose == digest],
                "digest": digest,
                "layers": list(plan.layers),
                "explanation": plan.explain(),
            }
            for digest, plan in plans.items()
        ]

    def forget(self, digest: str) -> None:
        """Drop a plan that was deleted, with its names."""
        with self._lock:
            self.store.forget(digest)
            self._names = {name: whose for name, whose in self._names.items() if whose != digest}
            self._inline = {key: plan for key, plan in self._inline.items() if plan.digest != digest}

    def resolve(self, value: Any) -> Plan | None:
        """Return the plan that a request names or writes; None for no plan.

        Args:
            value: Digest, the beginning of one (8 digits or more), name, inline plan, or None or "none".

        Raises:
            EngineError: If there is no such plan, or it does not fit the model.
            UsageError: If an inline plan is malformed.
        """
        if value is None or value == NO_PLAN:
            return None
        if isinstance(value, Mapping):
            return self._written(value)
        if not isinstance(value, str):
            raise EngineError(f"plan is {repr(value)[:80]}", hint="give a digest, a name or an inline plan")
        with self._lock:
            if value in self._names:
                return self.store.plan(self._names[value])
            if len(value) < 64 and len(value) >= SHORTEST and set(value) <= set("0123456789abcdef"):
                found = [digest for digest in self.store.digests(Plan) if digest.startswith(value)]
                if len(found) > 1:
                    several = " and ".join(digest[: len(value) + 8] for digest in found[:2])
                    raise EngineError(
                        f"{len(found)} plans have digests that begin with {value!r}: {several}"
                        + (", ..." if len(found) > 2 else ""),
                        hint="give more digits",
                    )
                value = found[0] if found else value
            return self.store.plan(value)

    def _written(self, value: Mapping[str, Any]) -> Plan:
        if not value or not set(value) <= {"cap", "steer"}:
            raise UsageError(f"the inline plan is {repr(dict(value))[:80]}", hint=INLINE)
        if self.maker is None:
            raise UsageError("an inline plan needs the map of the model", hint="start the server with --map")
        maker = self.maker

        def make() -> Plan:
            # A cap comes last, so that it holds whatever the steering does.
            made = [getattr(maker, kind)(value[kind]) for kind in ("steer", "cap") if kind in value]
            return made[0] if len(made) == 1 else made[0] + made[1]

        return self._made(json.dumps(value, sort_keys=True), make)

    def _made(self, key: str, make: Callable[[], Plan]) -> Plan:
        """Return a plan that a request wrote, from memory if the same was written before."""
        with self._lock:
            known = self._inline.get(key)
        if known is not None:
            return known
        plan = make()
        self.check(plan)
        with self._lock:
            if self._store_inline:
                self.check_room(plan)
                self.store.put(plan)
            if len(self._inline) >= MOST_INLINE:
                self._inline.pop(next(iter(self._inline)))
            self._inline[key] = plan
        return plan


def fits(info: EngineInfo) -> Callable[[Plan], None]:
    """Return a check that a plan fits a model and its dtype."""

    def check(plan: Plan) -> None:
        try:
            plan.check_model(
                model_id=info.model_id,
                revision=info.model_revision,
                n_layers=info.n_layers,
                d_model=info.d_model,
            )
            plan.check_dtype(info.dtype)
        except InterventionError as error:
            raise EngineError(error.message, hint=error.hint) from error

    return check
