"""Records of a monitor: states, events, actions, and the source of its positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from personascope.errors import DynamicsError
from personascope.identity import ModelIdentity
from personascope.interventions import Plan, acts_on_response
from personascope.space import PersonaMap

Action = Plan | Literal["stop"] | None
"""Effect of an alarm on the reply: apply a plan from the next token on, stop the reply, or nothing."""

OnAlarm = Callable[["MonitorState"], Action] | Plan | Literal["stop"] | None
"""Response to an alarm: an action, or a callable that receives the state and returns the action."""

EventKind = Literal["alarm", "stop", "gate", "callback"]


@dataclass(frozen=True, slots=True)
class MonitorState:
    """A monitor's output after one value.

    Attributes:
        n: Number of values fed so far, this one included: turns or tokens, by the rule's level.
        reply: Index of the reply, from 0.
        token: Index of the token in the reply, from 0; 0 at the level of turns.
        position: Value that was fed, in units of the map; NaN for an empty reply.
        trend: Least-squares slope of the last values, in units of the map per turn or per token
            (`Monitor.trend_unit`); NaN before there are three. It is descriptive only: tokens are noisy and
            correlated, so their slope is no test.
        statistic: Statistic of the rule, which rises with drift.
        alarm: Whether the statistic is above the threshold now.
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
    """An alarm, or an action of the monitor, in a conversation.

    Attributes:
        n: Number of values fed so far.
        reply: Index of the reply, from 0.
        token: Index of the token after which it happened; a gate acts from the next token on.
        kind: "alarm" when the statistic crosses the threshold upwards. The action follows as an event of its
            own: "callback" (called it), "stop" (asked to end the reply) or "gate" (switched its plan on).
        statistic: Statistic of the rule.
        position: Value that was fed, in units of the map.
    """

    n: int
    reply: int
    token: int
    kind: EventKind
    statistic: float
    position: float


@dataclass(frozen=True, slots=True)
class MonitorSource:
    """Model and map of a monitor's positions; positions of others must not be fed to it.

    Attributes:
        model: Name of the model.
        revision: Revision of the model, compared only if both are known.
        map_sha256: Digest of the map whose units the positions are in; "" if unknown.
        chat_date: Date that the chat template wrote when the map was made; "" if it writes none.
    """

    model: str
    revision: str = ""
    map_sha256: str = ""
    chat_date: str = field(default="", compare=False)

    @classmethod
    def of(cls, persona_map: PersonaMap) -> MonitorSource:
        """Return the source of positions in units of a map."""
        model = persona_map.model
        return cls(model.id, model.revision, persona_map.digest, model.chat_date)

    @property
    def record(self) -> dict[str, str]:
        """The source as JSON values."""
        values = {"model": self.model, "revision": self.revision, "map_sha256": self.map_sha256}
        return values | ({"chat_date": self.chat_date} if self.chat_date else {})

    def require_model(self, model_id: str, revision: str) -> None:
        """Check that the model is the source's.

        Raises:
            DynamicsError: If it is another model; the message names both.
        """
        ModelIdentity(self.model, self.revision).require_same(
            ModelIdentity(model_id, revision),
            "the monitor",
            error=DynamicsError,
            hint="calibrate one for this model, or say monitor.for_model(None) if you mean it",
        )

    def require_map(self, persona_map: PersonaMap) -> None:
        """Check that the map is the source's; any map passes if the source names none.

        Raises:
            DynamicsError: If it is another map; the message names both.
        """
        if self.map_sha256 not in ("", persona_map.digest):
            raise DynamicsError(
                f"the monitor was made in units of the map {self.map_sha256[:12]}, the one in "
                f"{persona_map.folder} is {persona_map.digest[:12]}",
                hint="give the map that it was calibrated with, or calibrate it again",
            )


def checked_action(action: Any) -> OnAlarm:
    """Check and return the action of an alarm.

    Raises:
        DynamicsError: If the action is of an unknown kind, or a plan that acts on the prompt alone.
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
