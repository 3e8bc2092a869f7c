"""What a monitor says and does: states, events, actions, and whose positions they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from personascope.errors import DynamicsError
from personascope.identity import ModelIdentity
from personascope.interventions import Plan, acts_on_response
from personascope.space import PersonaMap

Action = Plan | Literal["stop"] | None
"""What an alarm does to the reply: a plan from the next token on, its end, or nothing."""

OnAlarm = Callable[["MonitorState"], Action] | Plan | Literal["stop"] | None
"""What to do at an alarm; a callable is called with the state and says what is done to the reply."""

EventKind = Literal["alarm", "stop", "gate", "callback"]


@dataclass(frozen=True, slots=True)
class MonitorState:
    """What a monitor says after a value.

    Attributes:
        n: Values fed so far, this one included: turns or tokens, by the rule's level.
        reply: Number of the reply, from 0.
        token: Number of the token in it, from 0; 0 at the level of turns.
        position: The value, in units of the map; NaN for an empty reply.
        trend: Least-squares slope of the last values, in units of the map per turn or per token
            (`Monitor.trend_unit`); NaN before there are three. It describes; tokens are noisy and depend
            on each other, so that a slope of them is no test.
        statistic: The rule's, which rises with drift.
        alarm: Whether it is above the threshold now.
        acted: What the monitor did at this value; None for nothing.
    """

    n: int
    reply: int
    token: int
    position: float
    trend: float
    statistic: float
    alarm: bool
    acted: Literal["stop", "gate", "callback"] | None = None


@dataclass(frozen=True, slots=True)
class MonitorEvent:
    """Something that happened in a conversation.

    Attributes:
        n: Values fed so far.
        reply: Number of the reply, from 0.
        token: Number of the token in it after which it happened; a gate acts from the next one on.
        kind: "alarm" whenever the statistic comes above the threshold; then what the monitor did:
            "callback" (called it), "stop" (asked for the end), "gate" (switched its plan on).
        statistic: The rule's.
        position: The value, in units of the map.
    """

    n: int
    reply: int
    token: int
    kind: EventKind
    statistic: float
    position: float


@dataclass(frozen=True, slots=True)
class MonitorSource:
    """What a monitor's positions are of; another model's or map's must not be fed to it.

    Attributes:
        model: Name of the model.
        revision: Its revision, which tells models apart where both are known.
        map_sha256: Digest of the map whose units the positions are in.
        chat_date: Date that the chat template wrote when the map was made, "" for one that writes none.
    """

    model: str
    revision: str = ""
    map_sha256: str = ""
    chat_date: str = field(default="", compare=False)

    @classmethod
    def of(cls, persona_map: PersonaMap) -> MonitorSource:
        """Return the source of a monitor in units of a map."""
        model = persona_map.model
        return cls(model.id, model.revision, persona_map.digest, model.chat_date)

    @property
    def record(self) -> dict[str, str]:
        """The source as JSON values."""
        values = {"model": self.model, "revision": self.revision, "map_sha256": self.map_sha256}
        return values | ({"chat_date": self.chat_date} if self.chat_date else {})

    def require_model(self, model_id: str, revision: str) -> None:
        """Refuse another model.

        Raises:
            DynamicsError: Naming both.
        """
        ModelIdentity(self.model, self.revision).require_same(
            ModelIdentity(model_id, revision),
            "the monitor",
            error=DynamicsError,
            hint="calibrate one for this model, or say monitor.for_model(None) if you mean it",
        )

    def require_map(self, persona_map: PersonaMap) -> None:
        """Refuse a map with other units; any goes where no map is known.

        Raises:
            DynamicsError: Naming both.
        """
        if self.map_sha256 not in ("", persona_map.digest):
            raise DynamicsError(
                f"the monitor was made in units of the map {self.map_sha256[:12]}, the one in "
                f"{persona_map.folder} is {persona_map.digest[:12]}",
                hint="give the map that it was calibrated with, or calibrate it again",
            )


def checked_action(action: Any) -> OnAlarm:
    """Return what can be done at an alarm.

    Raises:
        DynamicsError: If it cannot.
    """
    if isinstance(action, Plan) and not acts_on_response(action):
        raise DynamicsError(
            f"the plan {action.name or action.digest[:12]!r} acts on the prompt alone, an alarm comes later",
            hint="give a plan that acts on the response",
        )
    if action is None or action == "stop" or isinstance(action, Plan) or callable(action):
        return cast("OnAlarm", action)
    raise DynamicsError(
        f"{action!r} cannot be done at an alarm", hint='give None, "stop", a plan or a callable'
    )
