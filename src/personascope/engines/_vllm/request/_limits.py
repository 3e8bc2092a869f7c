"""Sizes of the static flavour's tables, and checks of what fits into them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from personascope.engines._capabilities import unsupported
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.request._spec import Spec
from personascope.errors import EngineError
from personascope.interventions import Cap, Plan

MAX_PARTS = 31
"""Maximum number of parts of the sequence in a plan, with one bit each."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of tables, which cannot grow once graphs are recorded.

    Attributes:
        plans: Maximum number of distinct plans in flight.
        ops: Maximum number of operations of a plan at one layer.
        slots: Maximum number of pooled spans in flight, and of requests with a plan.
        probe_sets: Maximum number of distinct probe sets in flight.
        probes: Maximum number of probes of a set at one layer.
        columns: Maximum number of probes of a set.
    """

    plans: int = 64
    ops: int = 2
    slots: int = 512
    probe_sets: int = 8
    probes: int = 4
    columns: int = 16

    def check_plan(self, plan: Plan) -> None:
        """Check that a plan fits.

        Raises:
            EngineError: If it does not; the message names the exceeded limit.
        """
        for layer in plan.layers:
            stages = plan.stages(layer)
            count = sum(map(len, stages))
            if count > self.ops:
                raise EngineError(
                    f"the plan has {count} operations at layer {layer}; {self.ops} fit",
                    hint="start the server with a larger personascope.limits.ops in --additional-config",
                )
            for stage in stages:
                if isinstance(stage[0], Cap) and len(stage) > 1 and not _orthogonal(stage):
                    raise unsupported("vllm", "joint_caps_graphs", f"at layer {layer} the plan asks for")
        if len({op.tokens for op in plan.ops}) > MAX_PARTS:
            raise EngineError(
                f"the plan tells more than {MAX_PARTS} parts of the sequence apart", hint="use fewer turns"
            )

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that a set of probes fits.

        Raises:
            EngineError: If it does not; the message names the exceeded limits.
        """
        most = max(probes.layers.count(layer) for layer in probes.layers)
        if most > self.probes or len(probes.names) > self.columns:
            raise EngineError(
                f"{len(probes.names)} probes, {most} at one layer; {self.columns} and {self.probes} fit",
                hint="use fewer, or a larger personascope.limits in --additional-config",
            )

    def fits(self, plan: str | None, probes: str | None, live: Collection[Spec], *, gated: bool) -> bool:
        """Return whether a request's plan and probes have rows besides the specs in flight.

        Args:
            plan: Digest of its plan, or None.
            probes: Digest of its probes, or None.
            live: Specs in flight.
            gated: Whether it may have a gate, which takes a row for both plans together.
        """
        held = set[str]().union(*map(plan_rows, live))
        more = gated + (plan is not None and plan not in held)
        if more and len(held) + more > self.plans:
            return False
        sets = {spec.probes for spec in live} - {None}
        return probes is None or len(sets | {probes}) <= self.probe_sets

    def check_room(self, spec: Spec, live: Collection[Spec]) -> None:
        """Check that a request fits besides the specs in flight.

        Raises:
            EngineError: If it does not; the message names the full table.
        """
        for what, new, held, most in (
            ("plans", plan_rows(spec), set[str]().union(*map(plan_rows, live)), self.plans),
            (
                "probe sets",
                {spec.probes} - {None},
                {other.probes for other in live} - {None},
                self.probe_sets,
            ),
        ):
            if new and len(held | new) > most:
                raise _full(most, what)
        spans = [len(other.spans or ((0, 1),)) for other in (*live, spec) if other.pool]
        if spec.pool and sum(spans) > self.slots:
            raise _full(self.slots, "pooled spans")
        slots = [_count_slots(other) for other in (*live, spec)]
        if slots[-1] and sum(slots) > self.slots:
            raise _full(self.slots, "requests with a plan")


def plan_rows(spec: Spec) -> set[str]:
    """Return a name for each row that a request takes in the table of plans."""
    gate = None if spec.gate is None else spec.gate.plan
    plan = set[str]() if spec.plan is None else {spec.plan}
    return plan if gate is None else plan | {f"{spec.plan} {gate}"}


def _count_slots(spec: Spec) -> int:
    gated = spec.gate is not None and spec.gate.plan is not None
    return 2 if gated else int(spec.plan is not None)


def _full(most: int, what: str) -> EngineError:
    return EngineError(
        f"{most} {what} are under way, and no more fit",
        hint="send it again later, or start with larger personascope.limits in --additional-config",
    )


def _orthogonal(caps: tuple[object, ...]) -> bool:
    directions = [cap.direction for cap in caps if isinstance(cap, Cap)]
    return all(
        abs(float(a @ b)) < 1e-6 for place, a in enumerate(directions) for b in directions[place + 1 :]
    )
