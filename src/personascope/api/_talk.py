"""A conversation with a mapped model, token by token, whose plan may change between replies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from personascope.api._mapped_model import MappedModel
from personascope.api._steer import make_cap_plan, make_steering_plan
from personascope.chat import Conversation, Message
from personascope.engines import Probe, Request, Sampling
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.live import ReplyText
from personascope.store import write_bytes

PROBE = "axis"


@dataclass(frozen=True, slots=True)
class Spoken:
    """A piece of a reply.

    Attributes:
        text: Text.
        part: "answer" or "thinking".
        position: Position of its token on the axis (0 is the mean role, 1 the default Assistant); None where
            the model has not read it yet, and outside of the answer.
    """

    text: str
    part: str
    position: float | None


class Talk:
    """A conversation that is kept; each reply comes in pieces, under the plan of the moment.

    Attributes:
        conversation: Messages so far.
        plan: Plan of the next reply; None for none.
        positions: Mean position of each reply's answer so far; NaN for an empty one.
        capped: Share of the plan's tokens on which a cap fired in the last reply; None without a cap.
    """

    def __init__(
        self,
        mapped: MappedModel,
        *,
        plan: Plan | None = None,
        system: str = "",
        max_new_tokens: int = 256,
        temperature: float = 0.7,
        seed: int = 0,
        anyway: bool = False,
    ) -> None:
        """Load the model on the Transformers engine, which tells tokens one by one."""
        self._mapped, self._seed, self._anyway = mapped, seed, anyway
        self._sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
        self._engine = mapped.engine_between_tokens()
        self.conversation: Conversation = (Message("system", system),) if system else ()
        self.plan = plan
        self.positions: list[float] = []
        self.capped: float | None = None

    def say(self, text: str) -> Iterator[Spoken]:
        """Say something, and yield the reply piece by piece; both are kept once the reply has ended.

        Raises:
            UsageError: If the engine cannot tell tokens one by one.
            EngineError: If the model cannot reply; nothing is kept then.
        """
        from personascope.engines import LiveBatch, LiveEnd, TransformersEngine

        engine = self._engine
        if not isinstance(engine, TransformersEngine):
            raise UsageError(
                f"{engine.info.engine} does not tell tokens one by one",
                hint="open the model with engine='transformers'",
            )
        persona_map = self._mapped.persona_map
        at = persona_map.middle_layer
        asked = (*self.conversation, Message("user", text))
        probe = Probe(PROBE, at, persona_map.unit_axis(at))
        turn = len(self.positions)
        request = Request(
            f"chat#{turn}", asked, self._sampling, plan=self.plan, probes=(probe,), seed=self._seed
        )
        batch = LiveBatch(engine)
        live = batch.submit(request)
        reader = ReplyText(engine.loaded.tokenizer, live.reply)
        known: dict[int, float] = {}
        while len(batch):
            for event in batch.step():
                if isinstance(event, LiveEnd):
                    if event.completion is None:
                        assert event.error is not None
                        raise event.error
                    done = event.completion
                    texts = {"answer": done.text, "thinking": done.reasoning}
                    pieces = reader.finish(done.token_ids, texts)
                    self._keep(asked, done.text, done.reasoning, done.projections[PROBE])
                    self.capped = None if done.cap_stats is None else done.cap_stats.firing_share
                else:
                    first = live.told - len(event.tokens)
                    for index, values in enumerate(event.projections, start=first):
                        known[index] = float(persona_map.to_units(values[0], at))
                    pieces = reader.feed(event.tokens)
                for piece in pieces:
                    if piece.text:
                        answer = piece.part == "answer"
                        yield Spoken(piece.text, piece.part, known.get(piece.index) if answer else None)

    def _keep(self, asked: Conversation, text: str, reasoning: str, projections: object) -> None:
        import numpy as np

        values = np.asarray(projections, float)
        at = self._mapped.persona_map.middle_layer
        mean = float(values.mean()) if len(values) else float("nan")
        self.positions.append(float(self._mapped.persona_map.to_units(mean, at)))
        self.conversation = (*asked, Message("assistant", text, reasoning))

    def plain(self) -> None:
        """Let the next replies run without a plan."""
        self.plan = None

    def explain(self) -> str:
        """Return what the next replies run under."""
        return "no plan" if self.plan is None else self.plan.explain()

    def steer(self, strength: float) -> None:
        """Steer the next replies along the axis, by a fraction of the layer's norm.

        Raises:
            SpaceError: If the map found no axis.
        """
        self.plan = make_steering_plan(self._mapped, strength, anyway=self._anyway)

    def cap(self, percentile: float, layers: str | None = None) -> None:
        """Cap the next replies: hold the projection at or above a percentile of role responses.

        Raises:
            UsageError: If the percentile is none, or the band of layers does not fit the model.
            SpaceError: If the map found no axis.
        """
        if not 0 <= percentile <= 100:
            raise UsageError(f"{percentile} is no percentile", hint="give a number from 0 to 100")
        self.plan = make_cap_plan(
            self._mapped, layers=layers, axis_percentile=percentile, anyway=self._anyway
        )

    def save(self, path: Path) -> Path:
        """Write the conversation as JSON, which ``personascope project`` reads.

        Raises:
            StoreError: If the file cannot be written.
        """
        return write_talk(path, self.conversation, self.positions)


def write_talk(path: Path, conversation: Conversation, positions: Sequence[float]) -> Path:
    """Write a conversation as JSON, which ``personascope project`` reads.

    Raises:
        StoreError: If the file cannot be written.
    """
    said = [
        {"role": one.role, "content": one.content} | ({"reasoning": one.reasoning} if one.reasoning else {})
        for one in conversation
    ]
    value = {"messages": said, "positions": list(positions)}
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    return path
