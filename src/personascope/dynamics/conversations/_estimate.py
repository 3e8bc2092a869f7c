"""Estimate of simulated conversations and replays, from a middle turn of some; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personascope.chat import Conversation, Message
from personascope.directions import AXIS, NamedProbe, axis_probe
from personascope.dynamics._conversation import DriftRun
from personascope.dynamics.conversations._auditor import Auditor, UserTurnRequest
from personascope.dynamics.conversations._auditor_models import (
    LocalAuditor,
    OpenAIAuditor,
    auditor_conversation,
)
from personascope.dynamics.conversations._scenarios import Scenario
from personascope.engines import Capture, Engine, Request, Sampling, longest_reply
from personascope.errors import DynamicsError
from personascope.interventions import Plan
from personascope.runs import Meter, WorkStep, spread
from personascope.space import PersonaMap

Scripts = Sequence[tuple[Scenario, Sequence[str], int]]
"""Scenario, its user messages as far as they are known, and how many turns it will have."""


def scripts_of(scenarios: Sequence[Scenario], turns: int, seed: int, *, scripted: bool) -> Scripts:
    """Return the user messages of scenarios, and their turns under the scripted auditor or under a model.

    Args:
        scenarios: Scenarios to simulate.
        turns: Maximum number of turns per conversation.
        seed: Random seed of the scripts.
        scripted: Whether the scripts are sent; a model writes messages until the last turn.
    """
    found = [(one, one.script(seed) or (one.brief or one.topic,)) for one in scenarios]
    return [(one, said, min(turns, len(said)) if scripted else turns) for one, said in found]


def scripts_of_run(source: DriftRun) -> Scripts:
    """Return the user messages of an earlier run that is replayed, and its turns.

    Raises:
        DynamicsError: If the run has no turn.
    """
    notes = {note["id"]: note for note in source.manifest["notes"]["scenes"]}
    found = [
        (Scenario(**notes[one.id]), tuple(turn.user for turn in one.turns), len(one.turns))
        for one in source.dialogues
        if one.turns
    ]
    if not found:
        raise DynamicsError(f"{source.path} has no turn to replay", hint="simulate conversations first")
    return found


def estimate_conversations(
    engine: Engine,
    persona_map: PersonaMap,
    scripts: Scripts,
    *,
    layer: int,
    probes: Sequence[NamedProbe] = (),
    plan: Plan | None = None,
    sampling: Sampling | None = None,
    tokens: str = "answer",
    seed: int = 0,
    auditor: Auditor | None = None,
    probe: int = 8,
) -> tuple[WorkStep, ...]:
    """Estimate `simulate` or `replay` from the middle turn of some conversations.

    A prompt grows by the same with each turn, so the middle turn of a conversation takes its mean time. The
    turns before it are made of the conversation's own messages and of replies to its first.

    Args:
        engine: Engine of the target model.
        persona_map: Map of the target model.
        scripts: Conversations (`scripts_of`, `scripts_of_run`).
        layer: Layer at which positions are read.
        probes: Directions to read besides the axis.
        plan: Plan applied to every reply.
        sampling: Sampling options of the replies; at most 256 new tokens by default.
        tokens: Which tokens of a reply are read.
        seed: Random seed.
        auditor: Auditor that plays the user; one without a model adds nothing.
        probe: Number of conversations to take.

    Raises:
        EngineError: If the engine fails on the probe.
    """
    how = sampling or Sampling(max_new_tokens=256)
    read = (axis_probe(persona_map, layer), *(named for named in probes if named.name != AXIS))
    sample = [scripts[place] for place in spread(len(scripts), probe)]

    def request(scenario: Scenario, prompt: Conversation) -> Request:
        directions = tuple(named.probe for named in read)
        return Request(
            scenario.id,
            prompt,
            how,
            plan=plan,
            capture=Capture(),
            probes=directions,
            seed=seed,
            tokens=tokens,
        )

    opened = engine.run([request(one, (Message("user", said[0]),)) for one, said, _ in sample])
    replies = {done.id: done.text.strip() or "(says nothing)" for done in opened}
    room = engine.info.context
    room = None if room is None else room - longest_reply(engine, how)
    mean = sum(turns for _, _, turns in scripts) / len(scripts)
    middle: list[tuple[Scenario, Conversation]] = []
    fits = mean
    for one, said, turns in sample:
        asked = [said[number % len(said)] for number in range((turns + 1) // 2)]
        chat = _chat(asked, replies[one.id])
        if room is not None and engine.count_tokens(chat) > room:
            while len(asked) > 1 and engine.count_tokens(chat) > room // 2:
                asked = asked[:-1]
                chat = _chat(asked, replies[one.id])
            fits = min(fits, 2 * len(asked) - 1)
        middle.append((one, chat))
    total = sum(min(turns, round(fits)) if fits < mean else turns for _, _, turns in scripts)
    meter = Meter(engine)
    for _ in meter.run([request(one, chat) for one, chat in middle]):
        pass
    step = meter.step("replies", scale=total / meter.responses)
    return (step, *_auditing(auditor, engine, middle, total, seed))


def _chat(asked: Sequence[str], reply: str) -> Conversation:
    """Return a conversation of user messages, all but the last with the same reply."""
    before = [part for said in asked[:-1] for part in (Message("user", said), Message("assistant", reply))]
    return (*before, Message("user", asked[-1]))


def _auditing(
    auditor: Auditor | None,
    engine: Engine,
    middle: Sequence[tuple[Scenario, Conversation]],
    total: int,
    seed: int,
) -> tuple[WorkStep, ...]:
    """Return the work of an auditor that is a model."""
    asked = [UserTurnRequest(one, len(chat) // 2, chat[:-1], seed) for one, chat in middle]
    if isinstance(auditor, LocalAuditor):
        meter = Meter(auditor.engine)
        auditor.on(meter).answer(asked)
        step = meter.step("auditor", scale=total / meter.responses)
        return (step,)
    if isinstance(auditor, OpenAIAuditor):
        # The target's tokenizer stands in for the server's; nothing is sent.
        sent = [engine.count_tokens(_plain(auditor_conversation(one, 0))) for one in asked]
        wrote = [len(engine.encode(str(chat[-1].content))) for _, chat in middle]
        step = WorkStep(
            "auditor",
            calls=total,
            sent=round(total * sum(sent) / len(sent)),
            received=round(total * sum(wrote) / len(wrote)),
        )
        return (step,)
    return ()


def _plain(chat: Conversation) -> Conversation:
    """Return the texts of a conversation as one user message, which every chat template takes."""
    return (replace(chat[-1], role="user", content="\n".join(str(one.content) for one in chat)),)
