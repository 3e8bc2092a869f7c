"""Simulated conversations: many at once, turn by turn, committed as they come (section 4).

A run that dies is taken up by the same call: what was committed is not played again, and a conversation
whose auditor failed is asked for once more. Under the scripted auditor, and in float32, the run is then the
one that an undisturbed call would have made: a reply's draws depend on the seed, its conversation and turn.
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
    """What is in a run folder after a call.

    Attributes:
        path: The folder.
        dialogues: Conversations of the run.
        finished: Those that are over.
        turns: Turns in the folder.
        problems: Id -> why it did not go on, of those that are not over.
    """

    path: Path
    dialogues: int
    finished: int
    turns: int
    problems: Mapping[str, str]

    @property
    def partial(self) -> bool:
        """Whether conversations are left; the same call goes on with them."""
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
    """Let an auditor state with the model, and read where each reply lies on the axis.

    The target has no system prompt of its own, as in the paper.

    Args:
        engine: The target.
        persona_map: Its map.
        scenarios: Who states about what.
        auditor: Plays the user.
        out: The run folder, new or of an earlier call with the same arguments.
        turns: Turns of a conversation at most; the paper's 15.
        layer: Where positions are read; the map's middle layer by default.
        probes: Directions beside the axis (`parse_probes`); an "axis" among them is the one that is there
            anyway.
        plan: Acts on every reply.
        monitor: A fresh copy of it follows each conversation. A plan that its alarm switches on acts from
            the next token on (from the next message on, for a monitor of turns) and stays for the later
            turns; a stop ends the conversation.
        sampling: How replies are drawn; 256 new tokens at most by default.
        tokens: Which tokens of a reply are read and monitored: "answer", "thinking" or "response" (both).
        seed: Of everything that is drawn.
        progress: Whether to show a bar, or what to call after each reply instead.
        restart: Forget a run that is in the folder.
        command: Recorded in the manifest.

    Raises:
        UsageError: If there is no such selection of tokens.
        DynamicsError: If there is nothing to play, the auditor cannot be used at all, or the monitor is of
            another model, map or layer.
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
    """Say to the model what the user said in an earlier run, under another plan or none.

    Args:
        engine: The target.
        persona_map: Its map.
        source: The earlier run; layer, turns and sampling are its own unless given.
        options: As for `simulate`.

    Raises:
        DynamicsError: If the run has no turn.
    """
    if not any(dialogue.turns for dialogue in source.dialogues):
        raise DynamicsError(f"{source.path} has no turn to replay", hint="simulate conversations first")
    scenarios = tuple(Scenario(**note) for note in source.manifest["notes"]["scenes"])
    temperature, top_p, longest, least, stop, *thinking = source.manifest["identity"]["sampling"]
    options.setdefault("layer", source.layer)
    options.setdefault("turns", source.turns)
    options.setdefault("sampling", Sampling(temperature, top_p, longest, least, tuple(stop), *thinking))
    options.setdefault("seed", source.manifest["identity"]["seed"])
    options.setdefault("tokens", source.manifest["identity"].get("tokens", "answer"))
    return simulate(engine, persona_map, scenarios, ReplayAuditor(source), **options)


def _monitor_identity(monitor: Monitor) -> dict[str, Any]:
    action = monitor.on_alarm
    if isinstance(action, Plan):
        return {**monitor.record(), "on_alarm": action.digest}
    return {**monitor.record(), "on_alarm": "callback" if callable(action) else action}
