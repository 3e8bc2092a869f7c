"""The drift monitor: reads positions in order, reports position, trend and alarm, and may act."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from personascope.dynamics.monitor._baseline import Level
from personascope.dynamics.monitor._events import (
    EventKind,
    MonitorEvent,
    MonitorSource,
    MonitorState,
    OnAlarm,
    checked_action,
)
from personascope.dynamics.monitor._rules import Cusum, Rule, Threshold
from personascope.dynamics.monitor._saved import FORMAT, monitor_file, read_monitor
from personascope.dynamics.monitor._watch import DeclaredReplyWatch, ReplyWatch
from personascope.engines import Watch
from personascope.errors import DynamicsError, StoreError
from personascope.interventions import Plan
from personascope.space import PersonaMap, position
from personascope.stats import slope
from personascope.store import write_record

TREND_WINDOWS: dict[Level, int] = {"turn": 5, "token": 64}
"""Default number of values in the trend."""


class Monitor:
    """Watch a conversation for drift away from the Assistant.

    A monitor holds the state of one conversation: `fresh` returns a monitor for another one, and `copy` one
    in the same state. An alarm acts once. The stop or gate that it switched on stays until `rearm`, and is
    requested again after the first token of every later reply.

    Attributes:
        rule: Rule that raises the alarm.
        layer: Layer of the positions.
        probe: Name of the probe that `watch` reads from an engine's projections.
        units: Raw projections of the mean role and the default at that layer, which are positions 0 and 1.
        source: Model and map of the positions; None for any.
        on_alarm: Action at an alarm.
        window: Number of values in the trend.
        events: Events of the conversation so far.
        alarmed_at: Number of values fed when the first alarm (since `rearm`) was raised; None without one.
        gate: Plan that an alarm switched on; None without one.
        stopped: Whether an alarm asked to stop.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        layer: int,
        probe: str = "axis",
        units: tuple[float, float] | None = None,
        source: MonitorSource | None = None,
        on_alarm: OnAlarm = None,
        window: int | None = None,
    ) -> None:
        """Begin a conversation.

        Raises:
            DynamicsError: If the window is too short, the units are not two different finite numbers, or
                ``on_alarm`` is no valid action.
        """
        self.rule = rule
        self.layer = layer
        self.probe = probe
        self.units = units
        self.source = source
        self.window = TREND_WINDOWS[rule.level] if window is None else window
        if self.window < 3:
            raise DynamicsError(f"a trend over {self.window} values was asked for", hint="give 3 or more")
        if units is not None and not (all(map(math.isfinite, units)) and units[0] != units[1]):
            raise DynamicsError(
                f"projections of {units[0]} for the mean role and {units[1]} for the default make no unit",
                hint="choose a layer at which the map tells them apart",
            )
        self.on_alarm: OnAlarm = checked_action(on_alarm)
        self._begin()

    @classmethod
    def for_map(
        cls,
        rule: Rule,
        persona_map: PersonaMap,
        *,
        layer: int | None = None,
        probe: str = "axis",
        on_alarm: OnAlarm = None,
        window: int | None = None,
    ) -> Monitor:
        """Create a monitor of positions on a map's axis, at the middle layer by default."""
        at = persona_map.middle_layer if layer is None else layer
        return cls(
            rule,
            layer=at,
            probe=probe,
            units=persona_map.units(at),
            source=MonitorSource.of(persona_map),
            on_alarm=on_alarm,
            window=window,
        )

    def _begin(self) -> None:
        self.events: list[MonitorEvent] = []
        self._n = 0
        self._reply = -1
        self._token = -1
        self._gated = False
        self._numbers: deque[int] = deque(maxlen=self.window)
        self._values: deque[float] = deque(maxlen=self.window)
        self.rearm()

    def rearm(self) -> None:
        """Clear the alarm and its effects, and restart the statistic in the same conversation.

        The statistic starts from its initial state. The false-alarm rate then holds for each such part, not
        for all of them together.
        """
        self._tracker = self.rule.tracker()
        self._over = False
        self.alarmed_at: int | None = None
        self.gate: Plan | None = None
        self.stopped = False

    @property
    def n(self) -> int:
        """Number of values fed so far."""
        return self._n

    @property
    def trend_unit(self) -> str:
        """Unit of the trend: units of the map per turn, or per token."""
        return f"units of the map per {self.rule.level}"

    def begin_reply(self, *, gated: bool = False) -> None:
        """Mark the next token as the first of a reply; at the level of turns every value is a reply anyway.

        Args:
            gated: Whether the request's plan already contains ``gate``.
        """
        if self.rule.level == "token":
            self._reply += 1
            self._token = -1
        self._gated = gated

    def feed(self, position: float) -> MonitorState:
        """Feed the next position, act on an alarm if due, and return the new state.

        Args:
            position: Position of a reply (NaN if empty) or of a token, in units of the map.

        Raises:
            DynamicsError: If the position is not finite, or a callback returned no valid action.
            Exception: Whatever a callback raised.
        """
        position = float(position)
        turns = self.rule.level == "turn"
        if not math.isfinite(position) and not (turns and position != position):
            raise DynamicsError(
                f"position {self._n} of the conversation is {position}", hint="find where it was projected"
            )
        if turns:
            self._reply += 1
            self._token = 0
        else:
            if self._reply < 0:
                self.begin_reply()
            self._token += 1
        statistic = self._tracker.update(position, self._reply, self._token)
        self._n += 1
        if position == position:
            self._numbers.append(self._n)
            self._values.append(position)
        trend = slope(self._numbers, self._values)
        alarm = statistic > self.rule.threshold
        state = MonitorState(self._n, self._reply, self._token, position, trend, statistic, alarm)
        if alarm and not self._over:
            self._note("alarm", state)
        self._over = alarm
        if alarm and self.alarmed_at is None:
            self.alarmed_at = self._n
            return self._act(self.on_alarm, state)
        if not turns and self._token == 0 and (self.stopped or (self.gate is not None and not self._gated)):
            return self._act("stop" if self.stopped else self.gate, state)
        return state

    def feed_raw(self, projection: float) -> MonitorState:
        """Feed the next raw projection on the unit axis; see `feed`.

        Raises:
            DynamicsError: If the monitor has no units.
        """
        return self.feed(self.to_position(projection))

    def to_position(self, projection: float) -> float:
        """Convert a raw projection on the unit axis, at the monitor's layer, to a position.

        Raises:
            DynamicsError: If the monitor has no units.
        """
        if self.units is None:
            raise DynamicsError(
                "the monitor was fed a raw projection and does not know the units of its map",
                hint="make it with Monitor.for_map(rule, found), or with units=(zero, one)",
            )
        return position(float(projection), *self.units)

    def watch(
        self,
        probe: str | None = None,
        to_position: Callable[[float], float] | PersonaMap | None = None,
        *,
        gated: bool = False,
    ) -> Watch:
        """Return a watch of the conversation's next reply, for ``Request.watch``.

        The request needs a probe of that name: the unit axis at the monitor's layer. If the engine restarts
        the reply, the monitor returns to its state at the start of the reply, and a callback may be called
        again. A watch of a monitor whose action is no function is a `DeclaredWatch`, which vLLM runs too.

        Args:
            probe: Name of the probe; the monitor's by default.
            to_position: Function from raw projection to position, or a map that supplies the units; the
                monitor's own units by default.
            gated: Whether the request's plan already contains ``gate``.

        Raises:
            DynamicsError: If the monitor reads turns, or has no units.
        """
        if self.rule.level != "token":
            raise DynamicsError(
                "a monitor of turns cannot watch tokens",
                hint="calibrate one of tokens, or feed it the mean projection when the reply is there",
            )
        name = self.probe if probe is None else probe
        if to_position is not None and not isinstance(to_position, PersonaMap):
            return ReplyWatch(self, name, to_position, gated=gated)
        units = self.units if to_position is None else to_position.units(self.layer)
        if units is None:
            self.to_position(0.0)
            return ReplyWatch(self, name, self.to_position, gated=gated)
        if callable(self.on_alarm) or not isinstance(self.rule, Cusum | Threshold):
            # What a function will answer is not known in advance.
            return ReplyWatch(self, name, lambda raw: position(raw, *units), gated=gated)
        return DeclaredReplyWatch(self, name, units, gated=gated)

    def _act(self, action: OnAlarm, state: MonitorState) -> MonitorState:
        if callable(action):
            self._note("callback", state)
            state = replace(state, acted="callback")
            action = checked_action(action(state))
            if callable(action):
                raise DynamicsError(
                    "the callback of an alarm returned a callable", hint='return None, "stop" or a plan'
                )
        if isinstance(action, Plan):
            self.gate = action
            self._note("gate", state)
            return replace(state, acted="gate")
        if action == "stop":
            self.stopped = True
            self._note("stop", state)
            return replace(state, acted="stop")
        return state

    def _note(self, kind: EventKind, state: MonitorState) -> None:
        self.events.append(
            MonitorEvent(state.n, state.reply, state.token, kind, state.statistic, state.position)
        )

    def fresh(self) -> Monitor:
        """Return a monitor with the same settings for another conversation."""
        other = copy.copy(self)
        other._begin()
        return other

    def copy(self) -> Monitor:
        """Return an independent monitor in the same state."""
        other = copy.copy(self)
        other.events = list(self.events)
        other._numbers, other._values = self._numbers.copy(), self._values.copy()
        other._tracker = self._tracker.copy()
        return other

    def for_model(self, source: MonitorSource | None) -> Monitor:
        """Return a fresh monitor that accepts another model and map, or any (None); the rule is unchanged."""
        other = self.fresh()
        other.source = source
        return other

    def check_model(self, *, model_id: str, revision: str) -> None:
        """Check that the model is the one whose positions the rule was made for.

        Raises:
            DynamicsError: If it is another model; the message names both.
        """
        if self.source is not None:
            self.source.require_model(model_id, revision)

    def check_map(self, persona_map: PersonaMap) -> None:
        """Check that the map is the one in whose units the rule was made.

        Raises:
            DynamicsError: If it is another map; the message names both.
        """
        if self.source is not None:
            self.source.require_map(persona_map)

    def record(self) -> dict[str, Any]:
        """Return the monitor's settings, without the conversation and ``on_alarm``, as JSON values."""
        return {
            "format": FORMAT,
            "rule": self.rule.record(),
            "layer": self.layer,
            "probe": self.probe,
            "units": None if self.units is None else list(self.units),
            "source": None if self.source is None else self.source.record,
            "window": self.window,
        }

    def save(self, path: Path | str) -> None:
        """Write the monitor as JSON: rule, baseline, calibration, layer, units, model and map.

        The conversation and ``on_alarm`` are not written; give ``on_alarm`` again when loading.

        Args:
            path: File to write, or an existing folder that gets ``monitor.json``.

        Raises:
            StoreError: If the file cannot be written.
        """
        write_record(monitor_file(path), self.record())

    @classmethod
    def load(cls, path: Path | str, *, on_alarm: OnAlarm = None) -> Monitor:
        """Read a saved monitor.

        Args:
            path: Saved file, or the folder with ``monitor.json``.
            on_alarm: Action at an alarm.

        Raises:
            StoreError: If the file is missing, damaged, or of another format.
        """
        file, action = monitor_file(path), checked_action(on_alarm)
        record, rule = read_monitor(file)
        try:
            return cls(
                rule,
                layer=record.layer,
                probe=record.probe,
                units=record.units,
                source=record.source,
                on_alarm=action,
                window=record.window,
            )
        except DynamicsError as error:
            raise StoreError(
                f"{file} is damaged: {error.message}", hint="calibrate and save the monitor again"
            ) from error
