"""Simulate many conversations at once, turn by turn, with regular commits (section 4).

The same call resumes an interrupted run: committed turns are kept, and conversations whose auditor failed are
tried again. With the scripted auditor and in float32, a resumed run equals an uninterrupted one, because the
sampling of a reply depends only on the seed, its conversation and its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personascope.directions import AXIS, NamedProbe, axis_probe
from personascope.dynamics._conversation import DriftRun
from personascope.dynamics._records import read_drift
from personascope.dynamics.conversations._auditor import Auditor, ReplayAuditor
from personascope.dynamics.conversations._driver import ConversationDriver
from personascope.dynamics.conversations._scenarios import Scenario, scenarios_digest
from personascope.dynamics.monitor import Monitor
from personascope.engines import Engine, Sampling, check_tokens
from personascope.errors import DynamicsError
from personascope.interventions import Plan
from personascope.runs import ProgressCallback, chat_notes, dated, shown
from personascope.space import PersonaMap
from personascope.store import RunFolder

_NOTED = ("id", "domain", "persona", "topic", "number", "brief", "switch")


@dataclass(frozen=True, slots=True)
class Simulation:
    """Summary of a run folder after a call.

    Attributes:
        path: Path of the run folder.
        dialogues: Number of conversations in the run.
        finished: Number of finished conversations.
        turns: Number of turns in the folder.
        problems: Id of each unfinished conversation -> why it could not continue.
    """

    path: Path
    dialogues: int
    finished: int
    turns: int
    problems: Mapping[str, str]

    @property
    def partial(self) -> bool:
        """Whether unfinished conversations remain; the same call resumes them."""
        return self.finished < self.dialogues


def simulate(
    engine: Engine,
    persona_map: PersonaMap,
    scenarios: Sequence[Scenario],
    auditor: Auditor,
    *,
    out: Path | str,
    turns: int = 15,
    layer: int | None = None,
    probes: Sequence[NamedProbe] = (),
    plan: Plan | None = None,
    monitor: Monitor | None = None,
    sampling: Sampling | None = None,
    tokens: str = "answer",
    seed: int = 0,
    progress: ProgressCallback | bool = True,
    restart: bool = False,
    command: str = "",
) -> Simulation:
    """Let an auditor talk with the model, and read the position of each reply on the axis.

    The target has no system prompt, as in the paper.

    Args:
        engine: Engine of the target model.
        persona_map: Map of the target model.
        scenarios: Scenarios to simulate.
        auditor: Auditor that plays the user.
        out: Run folder: a new one, or that of an earlier call with the same arguments.
        turns: Maximum number of turns per conversation; the paper's 15.
        layer: Layer at which positions are read; the map's middle layer by default.
        probes: Directions to read besides the axis (`parse_probes`). A probe named "axis" is ignored, because
            the axis is always read.
        plan: Plan applied to every reply.
        monitor: Monitor to copy afresh for each conversation. A plan switched on by an alarm acts from the
            next token on (from the next message on, for a monitor of turns) and stays on for later turns. A
            stop ends the conversation.
        sampling: Sampling options of the replies; at most 256 new tokens by default.
        tokens: Which tokens of a reply are read and monitored: "answer", "thinking" or "response" (both).
        seed: Random seed.
        progress: Whether to show a progress bar, or a callback to call after each reply instead.
        restart: Discard a run that is already in the folder.
        command: Command line to record in the manifest.

    Raises:
        UsageError: If ``tokens`` is no known selection.
        DynamicsError: If there is nothing to simulate, the auditor cannot be used at all, or the monitor is
            of another model, map or layer.
        EngineError: If the engine fails, or a reply comes back without its plan.
        StoreError: If the folder holds another run or cannot be written.
    """
    out = Path(out)
    engine = dated(engine, out, restart=restart)
    if not scenarios or turns < 1:
        raise DynamicsError(f"{len(scenarios)} conversations of {turns} turns", hint="ask for one or more")
    at = persona_map.middle_layer if layer is None else layer
    read = (axis_probe(persona_map, at), *(named for named in probes if named.name != AXIS))
    how = sampling or Sampling(max_new_tokens=256)
    if monitor is not None:
        monitor.check_map(persona_map)
        monitor.check_model(model_id=engine.info.model_id, revision=engine.info.model_revision)
        if monitor.layer != at:
            raise DynamicsError(
                f"the monitor reads layer {monitor.layer}, the conversations are read at layer {at}",
                hint="give the same layer to both",
            )
    check_tokens(tokens)
    info = engine.info
    identity: dict[str, Any] = {
        "scenes": scenarios_digest(scenarios),
        "auditor": auditor.name,
        "turns": turns,
        "layer": at,
        "map": persona_map.digest,
        "probes": [[named.name, named.layer, named.digest] for named in read],
        "plan": None if plan is None else plan.digest,
        "monitor": None if monitor is None else _monitor_identity(monitor),
        "sampling": [how.temperature, how.top_p, how.max_new_tokens, how.min_new_tokens, list(how.stop)]
        + ([] if how.max_thinking_tokens is None else [how.max_thinking_tokens]),
        "model": info.identity,
        "seed": seed,
    }
    if tokens != "answer":
        identity["tokens"] = tokens
    notes = {
        "kind": "dialogues",
        "command": command,
        "engine": info.engine,
        "versions": dict(info.versions),
        **chat_notes(info),
        "plan": None if plan is None else plan.explain(),
        "gate": None
        if monitor is None or not isinstance(monitor.on_alarm, Plan)
        else monitor.on_alarm.explain(),
        "zero": [float(value) for value in persona_map.stats.mean_projection],
        "one": [float(value) for value in persona_map.stats.default_projection],
        "scenes": [{key: getattr(scenario, key) for key in _NOTED} for scenario in scenarios],
    }
    with shown(progress) as tell, RunFolder.open(out, identity, notes, restart=restart) as folder:
        directions = tuple(named.probe for named in read)
        played = ConversationDriver(
            engine, persona_map, auditor, folder, turns, directions, plan, how, seed, tell, tokens
        )
        played.take_up(scenarios, monitor, read_drift(out))
        played.run()
        states = played.states
    return Simulation(
        out,
        len(states),
        sum(state.ended is not None for state in states),
        sum(len(state.turns) for state in states),
        {state.scenario.id: state.problem for state in states if state.ended is None},
    )


def replay(
    engine: Engine,
    persona_map: PersonaMap,
    source: DriftRun,
    **options: Any,
) -> Simulation:
    """Repeat the user messages of an earlier run to the model, under another plan or none.

    Args:
        engine: Engine of the target model.
        persona_map: Map of the target model.
        source: Earlier run. Its layer, turns, sampling, seed and tokens are used unless given in ``options``.
        options: Keyword arguments of `simulate`.

    Raises:
        DynamicsError: If the source run has no turn, or for the reasons of `simulate`.
    """
    if not any(dialogue.turns for dialogue in source.dialogues):
        raise DynamicsError(f"{source.path} has no turn to replay", hint="simulate conversations first")
    scenarios = tuple(Scenario(**note) for note in source.manifest["notes"]["scenes"])
    options = {"turns": source.turns, **settings_of_run(source), **options}
    return simulate(engine, persona_map, scenarios, ReplayAuditor(source), **options)


def settings_of_run(source: DriftRun) -> dict[str, Any]:
    """Return the layer, sampling, seed and tokens of an earlier run, as keyword arguments of `simulate`."""
    identity = source.manifest["identity"]
    temperature, top_p, longest, least, stop, *thinking = identity["sampling"]
    return {
        "layer": source.layer,
        "sampling": Sampling(temperature, top_p, longest, least, tuple(stop), *thinking),
        "seed": identity["seed"],
        "tokens": identity.get("tokens", "answer"),
    }


def _monitor_identity(monitor: Monitor) -> dict[str, Any]:
    action = monitor.on_alarm
    if isinstance(action, Plan):
        return {**monitor.record(), "on_alarm": action.digest}
    return {**monitor.record(), "on_alarm": "callback" if callable(action) else action}
