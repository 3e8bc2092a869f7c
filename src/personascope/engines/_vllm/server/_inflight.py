"""HTTP requests in flight: their projections as they arrive, and the plugin's field of the reply."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np

from personascope.engines._http._answers import firing
from personascope.engines._http._map_reader import ServedReply
from personascope.engines._vllm._completion import counts_of_plan, triggered
from personascope.engines._vllm._version import SUPPORTED
from personascope.engines._vllm.request._plan_store import ProbeSet
from personascope.engines._vllm.request._reply_spec import GateSpec, ReplySpec
from personascope.engines._vllm.request._results import Reading
from personascope.engines._vllm.request._spec import FIELD, Spec, sample_keys
from personascope.errors import EngineError
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True, eq=False)
class MapRead:
    """What is read of a request in units of the map.

    Attributes:
        probes: The map's probes, and behind them those of the request.
        first: Number of the map's.
        mean_layer: Layer whose mean is needed, or None.
        tokens: Whether the positions of tokens are told.
        before: Whether tokens are projected before the plan's operations too.
        begin: Function that begins the reading of one sample.
    """

    probes: ProbeSet
    first: int
    mean_layer: int | None
    tokens: bool
    before: bool
    begin: Callable[[], ServedReply]


@dataclass(slots=True, eq=False)
class InFlightRequest:
    """One HTTP request with the plugin's field.

    Attributes:
        spec: Spec that the engine gets.
        plan: Plan of the request, or None.
        probes: Probes of the request, or None.
        switched: Plan that its gate switches on, or None.
        pool: Whether the mean of the residual stream is asked for.
        mean_layer: Layer whose mean is needed for the nearest roles, or None.
        replies: For each sample, what is read of it in units of the map; empty without a map.
        first: Number of the map's probes, which stand before those of the request.
        told_one_by_one: Whether the positions of tokens are told.
        seed: Seed of the request, or None.
        rows: For each sample, the projections of its response tokens so far.
        tokens: For each sample, the number of response tokens in vLLM's reply so far.
        sent: For each sample, the number of tokens whose projections were sent to the client.
        read: For each sample, the number of tokens whose projections the map's reader has.
        prompt_tokens: Number of tokens of the prompt, once vLLM has said it.
        told: Field of the reply, once it is known.
        problem: Reason of a refusal, or error in the projections; "" if there is none.
    """

    spec: Spec
    plan: Plan | None
    probes: ProbeSet | None
    switched: Plan | None = None
    pool: bool = False
    mean_layer: int | None = None
    replies: Sequence[ServedReply] = ()
    first: int = 0
    told_one_by_one: bool = False
    seed: int | None = None
    rows: list[list[list[float]]] = field(default_factory=list[list[list[float]]])
    tokens: list[int] = field(default_factory=list[int])
    sent: list[int] = field(default_factory=list[int])
    read: list[int] = field(default_factory=list[int])
    prompt_tokens: int = 0
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""

    @classmethod
    def new(
        cls,
        *,
        plan: Plan | None,
        probes: ProbeSet | None,
        pool: bool,
        samples: int,
        digest: str | None,
        reply: ReplySpec | None = None,
        gate: GateSpec | None = None,
        switched: Plan | None = None,
        mapped: MapRead | None = None,
        seed: int | None = None,
    ) -> InFlightRequest:
        """Return a request with a new, unique key."""
        layer = None if mapped is None else mapped.mean_layer
        read = probes if mapped is None else mapped.probes
        spec = Spec(
            key=f"http-{uuid4().hex}",
            plan=digest,
            pool=pool or layer is not None,
            layers=None if pool or layer is None else (layer,),
            probes=None if read is None else read.digest,
            samples=samples,
            reply=reply,
            gate=gate,
            before=mapped is not None and mapped.before,
        )
        found = cls(spec, plan, probes, switched, pool, layer, seed=seed)
        found.rows = [[] for _ in range(samples)]
        found.tokens, found.sent, found.read = [0] * samples, [0] * samples, [0] * samples
        if mapped is not None:
            found.replies = [mapped.begin() for _ in range(samples)]
            found.first, found.told_one_by_one = mapped.first, mapped.tokens
        return found

    def take(self, choice: Mapping[str, Any]) -> None:
        """Take the tokens of a choice, or of a chunk of one, and its end."""
        number = choice["index"]
        ids = choice.get("token_ids") or ()
        self.tokens[number] += len(ids)
        if not self.replies:
            return
        reply, known = self.replies[number], self.read[number]
        reply.feed(ids)
        reply.project(self.rows[number][known:])
        self.read[number] = max(known, len(self.rows[number]))
        if choice.get("finish_reason"):
            reply.end(choice["finish_reason"], choice.get("stop_reason"))

    def news(self, number: int) -> dict[str, Any]:
        """Return what has become known of a sample's tokens; {} if neither probes nor positions are told."""
        found = self.new_projections(number)
        if self.told_one_by_one:
            found["tokens"] = self.replies[number].told()
        return found

    @property
    def keys(self) -> list[str]:
        """Keys of the request's samples."""
        return sample_keys(self.spec.key, self.spec.samples)

    def new_projections(self, sample: int) -> dict[str, Any]:
        """Return the projections of a sample's tokens that the client does not have yet.

        The last sampled token has none, because it has not passed through the model. Tokens beyond the end
        of the response are left out (vLLM finds a stop text only afterwards).
        """
        if self.probes is None:
            return {}
        first = self.sent[sample]
        stop = max(first, min(len(self.rows[sample]), self.tokens[sample] - 1))
        self.sent[sample] = stop
        part = self.rows[sample][first:stop]
        names = enumerate(self.probes.names, self.first)
        columns = {name: [row[n] for row in part] for n, name in names}
        return {"first": first, "projections": columns}

    def totals(self, readings: Mapping[str, Reading]) -> dict[str, Any]:
        """Return the plugin's field of the reply, with the projections that the client does not have yet.

        Raises:
            EngineError: If the request was refused, ran with another plan, or lacks projections.
        """
        samples = [self._sample(n, readings[key]) for n, key in enumerate(self.keys)]
        name = None if self.plan is None else self.plan.name
        probes = None if self.probes is None else self.probes.digest
        head: dict[str, Any] = {"plan": self.spec.plan, "plan_name": name, "probes": probes}
        if self.seed is not None:
            head["seed"] = self.seed
        if self.spec.samples == 1:
            self.told = head | samples[0]
        else:
            self.told = head | {"samples": [{"index": n, **sample} for n, sample in enumerate(samples)]}
        return dict(self.told)

    @property
    def usage(self) -> dict[str, int]:
        """Numbers of tokens of the prompt and of all responses."""
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": sum(self.tokens)}

    def _sample(self, number: int, reading: Reading) -> dict[str, Any]:
        if self.problem:
            raise EngineError(self.problem)
        if reading.plan != self.spec.plan:
            raise EngineError(
                f"the request ran with the plan {reading.plan}, not {self.spec.plan}",
                hint="report this with the vLLM version; the response is not used",
            )
        found = self.news(number)
        if self.probes is not None:
            found["projected_tokens"] = self.sent[number]
            if self.sent[number] != max(0, self.tokens[number] - 1):
                raise EngineError(
                    f"{self.sent[number]} of {self.tokens[number] - 1} response tokens were projected",
                    hint="report this with the vLLM version; the response is not used",
                )
        if self.plan is not None:
            found["firing"] = firing(counts_of_plan(reading, self.plan).stats(self.plan))
        if self.spec.gate is not None:
            found["gate"] = self._gate(number, reading)
        if self.pool:
            mean = reading.mean(0, reading.layers)
            found["pooled"] = None if mean is None else _array(mean, reading)
        if self.replies:
            mean = None if self.mean_layer is None else reading.mean(0, [self.mean_layer])
            found |= self.replies[number].totals(None if mean is None else mean[0])
        return found

    def _gate(self, number: int, reading: Reading) -> dict[str, Any]:
        """Return what a gate did: its first token is None if its alarm was not raised within the response."""
        assert self.spec.gate is not None
        opened = triggered(reading, self.plan, self.switched, reading.prompt)
        if opened is None or opened.token > self.tokens[number]:
            return {"plan": self.spec.gate.plan, "token": None, "firing": None}
        return {
            "plan": opened.plan_digest,
            "token": opened.token,
            "firing": firing(opened.cap_stats),
        }


def _array(mean: np.ndarray, reading: Reading) -> dict[str, Any]:
    return {
        "data": base64.b64encode(np.ascontiguousarray(mean, "<f4").tobytes()).decode(),
        "dtype": "float32",
        "shape": list(mean.shape),
        "layers": reading.layers,
        "tokens": reading.counts[0],
    }


class InFlightRequests:
    """Requests in flight of one API server, by the keys of their samples."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._by_key: dict[str, tuple[InFlightRequest, int]] = {}

    def __len__(self) -> int:
        """Return the number of samples in flight."""
        return len(self._by_key)

    def add(self, in_flight: InFlightRequest) -> None:
        """Start collecting outputs for a request."""
        self._by_key |= {key: (in_flight, number) for number, key in enumerate(in_flight.keys)}

    def remove(self, in_flight: InFlightRequest) -> None:
        """Stop collecting outputs for a request."""
        for key in in_flight.keys:
            self._by_key.pop(key, None)

    def take(self, outputs: Iterable[Any]) -> None:
        """Move the plugin's part out of the engine's outputs, because vLLM would overwrite it in a merge."""
        for output in outputs:
            params = output.kv_transfer_params
            if not params or FIELD not in params:
                continue
            found = params.pop(FIELD)
            if not params:
                output.kv_transfer_params = None
            in_flight, number = self._by_key.get(found["key"], (None, 0))
            if in_flight is None:
                continue
            if "refused" in found:
                in_flight.problem = found["refused"]
            for _, first, rows in found.get("parts", ()):
                if first != len(in_flight.rows[number]):
                    in_flight.problem = (
                        f"projections from token {first} on came after {len(in_flight.rows[number])}"
                    )
                in_flight.rows[number] += rows

    def listen(self, processor: Any) -> None:
        """Process every output before vLLM's output processor does.

        Raises:
            EngineError: If this vLLM's processor has no ``process_outputs``.
        """
        inner: Callable[..., Any] | None = getattr(processor, "process_outputs", None)
        if inner is None:
            raise EngineError(
                f"{type(processor).__name__} has no process_outputs", hint=f"install {SUPPORTED}"
            )

        def process_outputs(engine_core_outputs: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
            self.take(engine_core_outputs)
            return inner(engine_core_outputs, *args, **kwargs)

        processor.process_outputs = process_outputs
