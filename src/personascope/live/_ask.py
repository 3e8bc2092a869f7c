"""One request: what its field asks for, and the request that the engine gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from personascope.engines import (
    Capture,
    EngineInfo,
    PlanBook,
    PlanStore,
    Probe,
    ProbeSet,
    Request,
    Rules,
    choose,
    read_field,
)
from personascope.errors import EngineError
from personascope.interventions import Plan
from personascope.live._body import ChatBody, TextBody
from personascope.live._positions import OURS, Positions
from personascope.live._reading import Reading, read_flag

FIELDS = ("plan", "override", "probes", "pool", "gate", "positions", "space", "layers")
"""Fields of the ``personascope`` value of a request."""

REQUEST_ID = "chat"
"""Id of every request in the engine, so that the random draws depend on the seed alone."""

LONGEST = 2048
"""Maximum length of a reply without ``max_tokens`` where the model's context length is unknown."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A checked request.

    Attributes:
        request: Request for the engine.
        chat: Whether it is a chat request.
        model: Name of the model in the reply.
        stream: Whether the reply is streamed.
        usage: Whether a stream ends with a chunk of usage.
        probes: Probes of the field; None without any.
        pool: Whether the mean of the residual stream is asked for.
        reading: What is read in units of the map.
        gate: Plan that an alarm switches on within the reply; None without a gate.
    """

    request: Request
    chat: bool
    model: str
    stream: bool
    usage: bool
    probes: ProbeSet | None
    pool: bool
    reading: Reading
    gate: Plan | None = None

    @property
    def plan(self) -> Plan | None:
        """Plan of the request."""
        return self.request.plan

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell of the reply."""
        nothing = self.plan is None and self.gate is None and self.probes is None
        return nothing and not self.pool and self.reading.positions is None


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """Checks of requests against the model, the plans and the map.

    Attributes:
        info: Identity and shape of the model.
        model: Name under which the model is served.
        plans: Plans that requests may name.
        store: Store of probes.
        positions: Reader of positions; None without a map.
        vocabulary: Number of token ids that the model has.
    """

    info: EngineInfo
    model: str
    plans: PlanBook
    store: PlanStore
    positions: Positions | None
    vocabulary: int

    def ask(self, body: ChatBody | TextBody, encode: Any, rules: Rules | None = None) -> Asked:
        """Check a request, and return it for the engine.

        Args:
            body: Body of the request.
            encode: Function from a text to its tokens, special ones included.
            rules: Rules of the request's key; none if not given.

        Raises:
            StatusError: 403 if the rules do not allow the plan.
            PersonascopeError: If the request cannot be honoured.
        """
        field = read_field(body)
        value: Mapping[str, Any] = {} if field is None else field
        unknown = sorted(set(value) - set(FIELDS))
        if unknown:
            raise EngineError(
                f"the request's personascope has an unknown field {unknown[0]!r}",
                hint=f"fields are {', '.join(FIELDS)}",
            )
        if field is not None and not value:
            raise EngineError(
                "the request's personascope asks for nothing",
                hint=f"give one of {', '.join(FIELDS)}, or leave it out",
            )
        chosen = choose(self.plans, value, rules or Rules())
        probes = self._probes(value.get("probes"))
        pool = read_flag(value, "pool", default=False)
        reading = Reading.of(self.positions, field)
        read = reading.probes
        capture = Capture() if pool else None
        if reading.mean_layer is not None:
            capture = capture or Capture((reading.mean_layer,))
        if probes is not None:
            read += tuple(
                Probe(name, layer, direction)
                for name, layer, direction in zip(probes.names, probes.layers, probes.directions, strict=True)
            )
        return Asked(
            Request(
                REQUEST_ID,
                self._prompt(body, encode),
                body.sampling(self.info.context or LONGEST),
                plan=chosen.plan,
                capture=capture,
                probes=read,
                seed=body.seed_or_new(),
                watch=chosen.watch(),
                tokens="response",
            ),
            chat=isinstance(body, ChatBody),
            model=self.model,
            stream=body.stream,
            usage=body.usage,
            probes=probes,
            pool=pool,
            reading=reading,
            gate=chosen.switched,
        )

    def check_probes(self, probes: ProbeSet) -> None:
        """Check that probes fit the model.

        Raises:
            EngineError: If they do not; the message names the reason.
        """
        width, info = probes.directions.shape[1], self.info
        if width != info.d_model:
            raise EngineError(
                f"the probes are {width} wide; the model is {info.d_model}",
                hint="make them from this model's map",
            )
        outside = [layer for layer in probes.layers if layer >= info.n_layers]
        if outside:
            raise EngineError(
                f"layer {outside[0]} is not in the model", hint=f"layers are 0 to {info.n_layers - 1}"
            )

    def _prompt(self, body: ChatBody | TextBody, encode: Any) -> Any:
        if isinstance(body, ChatBody):
            return body.conversation()
        prompt = body.prompt
        if isinstance(prompt, str):
            return tuple(encode(prompt))
        if prompt and isinstance(prompt[0], str):
            if len(prompt) > 1:
                raise EngineError(
                    f"the request has {len(prompt)} prompts",
                    hint="send one request for each; they run together",
                )
            return tuple(encode(prompt[0]))
        outside = [token for token in prompt if not 0 <= int(token) < self.vocabulary]
        if outside:
            # It would end the pass, and with it all that run beside.
            raise EngineError(
                f"the prompt has the token id {outside[0]}", hint=f"give 0 to {self.vocabulary - 1}"
            )
        return tuple(prompt)

    def _probes(self, digest: Any) -> ProbeSet | None:
        if digest is None:
            return None
        if not isinstance(digest, str):
            raise EngineError(f"probes is {digest!r}"[:100], hint="give the digest that its upload returned")
        found = PlanStore(self.store.folder).probes(digest)
        self.check_probes(found)
        ours = [name for name in found.names if name.startswith(OURS)]
        if ours:
            raise EngineError(f"a probe is called {ours[0]!r}", hint="rename it: positions are read under it")
        return found
