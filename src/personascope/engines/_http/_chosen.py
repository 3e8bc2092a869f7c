"""What a request runs under: its plan, and its gate with the plan that it switches on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from personascope.engines._gate import Gate, GateWatch
from personascope.engines._http._book import PlanBook
from personascope.engines._http._policy import Rules
from personascope.engines._vllm.request._reply_spec import GateSpec, read_gate_spec
from personascope.errors import EngineError
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a request runs under.

    Attributes:
        plan: Its plan; None for none.
        gate: Its gate, with the digest of its plan; None for none.
        switched: Plan of the gate.
    """

    plan: Plan | None
    gate: GateSpec | None = None
    switched: Plan | None = None

    def watch(self) -> GateWatch | None:
        """Return the gate for an engine that calls a watch between two tokens; None without a gate."""
        if self.gate is None or self.gate.alarm is None or self.switched is None:
            return None
        return GateWatch(Gate(self.gate.probe, self.switched, self.gate.alarm), self.gate.tokens)


def choose(book: PlanBook, asked: Mapping[str, Any], rules: Rules) -> Chosen:
    """Return what a request runs under; plans may be read from the disk, or made from a map.

    Args:
        book: Plans of the server.
        asked: Value of the field.
        rules: Rules of the request's key, which a gate's plan is held to as well.

    Raises:
        StatusError: 403 if the rules do not allow the plan, or that of the gate.
        PersonascopeError: If there is no such plan, or the field is malformed.
    """
    plan, gate = book.choose(asked, rules), read_gate(asked.get("gate"))
    if gate is None:
        return Chosen(plan)
    switched = book.choose({"plan": gate.plan}, rules)
    if switched is None:
        raise EngineError("the gate has no plan", hint="name the plan that it switches on")
    return Chosen(plan, replace(gate, plan=switched.digest), switched)


def read_gate(value: Any) -> GateSpec | None:
    """Return the gate of a request's field; None without one. It reads the answer unless it says otherwise.

    Raises:
        EngineError: If it is malformed.
    """
    if value is None:
        return None
    hint = 'give {"plan": "DIGEST", "probe": "axis", "alarm": {...}}, the alarm as monitor.watch() makes it'
    if not isinstance(value, Mapping) or "at" in value or not isinstance(value.get("plan"), str):
        raise EngineError("the gate is no object with a plan, a probe and an alarm", hint=hint)
    try:
        return read_gate_spec({"tokens": "answer", **value})
    except (TypeError, ValueError) as error:
        raise EngineError(f"the request {error}", hint=hint) from error
