"""The plans that requests may name: by digest, by its beginning, by name, or written inline."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from personascope.engines._contract import EngineInfo
from personascope.engines._vllm.request._plan_store import PlanStore
from personascope.errors import EngineError, InterventionError, UsageError
from personascope.interventions import Plan

SHORTEST = 8
"""Minimum number of digits of a short digest."""

MOST_INLINE = 256
"""Maximum number of inline plans that are kept in memory."""

NO_PLAN = "none"
"""Name that asks for no plan, also where the server has a default one."""

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
        self._names: dict[str, str] = {}
        self._inline: dict[str, Plan] = {}
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
