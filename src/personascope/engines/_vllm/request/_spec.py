"""A request's spec for the plugin: a small JSON value in ``SamplingParams.extra_args``.

Plans and probes are named by digest, and must be in the plan store before (`_plan_store`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from personascope.chat import PARTS
from personascope.engines._vllm.request._reply_spec import (
    GateSpec,
    ReplySpec,
    read_gate_spec,
    read_parts,
    read_reply_spec,
)
from personascope.errors import EngineError
from personascope.interventions import TokenSpans

FIELD = "personascope"
"""Key of the spec in ``extra_args``, and of the plugin's part of ``additional_config``."""

DRAW = "personascope_draw"
"""Key of ``extra_args`` for a request whose tokens we draw (`_sampler`): {"seed": int, "top_p": float}."""

END = 1 << 60
"""Position beyond every token."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Specification of the edits and readings of one request.

    Attributes:
        key: Name under which the results are fetched.
        samples: Number of responses (``SamplingParams.n``); if there are several, ``#0``, ``#1``, ... is
            appended to the key of each.
        plan: Digest of the plan, or None.
        response: Position of the first response token, if it lies within the prompt (text that
            already exists); None for the end of the prompt.
        turns: Position of the first content token of each message, for plans that act from a turn on.
        spans: Positions to read, [start, stop) each; None for the response.
        pool: Whether to sum the residual stream over the spans.
        layers: Layers to pool; None for all that are instrumented.
        norms: Whether to sum the norms of the tokens too.
        probes: Digest of the probes on which the spans' tokens are projected, or None.
        reply: How the response's tokens are assigned to its parts as they are drawn, and where it ends; None
            if neither plan nor readings depend on that.
        parts: First position and name of the parts of a response that already exists, if a plan acts on
            parts of it.
        select: Part of the response that is read within the spans; "response" for all of it.
        gate: What an alarm switches on inside the response, or None.
        before: Whether tokens are also projected just before the plan's operations, where there is a plan;
            these projections are sent behind the others, and not kept.
    """

    key: str
    plan: str | None = None
    response: int | None = None
    turns: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] | None = None
    pool: bool = False
    layers: tuple[int, ...] | None = None
    norms: bool = False
    probes: str | None = None
    samples: int = 1
    reply: ReplySpec | None = None
    parts: tuple[tuple[int, str], ...] = ()
    select: str = "response"
    gate: GateSpec | None = None
    before: bool = False

    def extra_args(self) -> dict[str, Any]:
        """Return the value of ``SamplingParams.extra_args``."""
        empty = Spec(self.key)
        return {FIELD: {k: v for k, v in asdict(self).items() if k == "key" or v != getattr(empty, k)}}

    def of_sample(self, name: str) -> Spec:
        """Return the spec of one sample, given its name in vLLM (``number_request`` if there are several)."""
        if self.samples == 1:
            return self
        return replace(self, key=f"{self.key}#{name.split('_', 1)[0]}")

    def token_spans(self, prompt: int) -> TokenSpans:
        """Return the positions of response and turns, for a prompt of ``prompt`` tokens."""
        return TokenSpans(prompt if self.response is None else self.response, self.turns)

    def read(self, prompt: int) -> tuple[tuple[int, int], ...]:
        """Return the spans to read, for a prompt of ``prompt`` tokens; none if nothing is read."""
        if not self.pool and self.probes is None:
            return ()
        return ((self.token_spans(prompt).prompt, END),) if self.spans is None else self.spans

    def salt(self, prompt: int, everywhere: bool, by_part: bool = False) -> str:
        """Return the salt that separates the plan's keys and values in the prefix cache.

        If a plan acts on a part of the sequence only, its effect on the same tokens depends on where the part
        begins, so the positions are included, and so is all that decides on which tokens a gate acts.

        Args:
            prompt: Number of tokens of the prompt.
            everywhere: Whether every operation of the plan acts on all tokens.
            by_part: Whether one acts on a part of the response.
        """
        gated = self.gate is not None and self.gate.plan is not None
        where = (
            ""
            if everywhere and not gated
            else f"/{self.token_spans(prompt).prompt}/{','.join(map(str, self.turns))}"
        )
        if gated or by_part:
            marks = None if self.reply is None else self.reply.marks
            told = repr((marks, self.parts, (self.gate, self.probes) if gated else None))
            where += f"/{hashlib.sha256(told.encode()).hexdigest()[:32]}"
        return f"{FIELD}/{self.plan}{where}"


def sample_keys(key: str, samples: int) -> list[str]:
    """Return the keys under which the results of a request's samples are kept."""
    return [key] if samples == 1 else [f"{key}#{number}" for number in range(samples)]


def parse_spec(extra_args: Mapping[str, Any] | None) -> Spec | None:
    """Parse the spec of a request; return None if it has none.

    Raises:
        EngineError: If it is malformed. Such a request is never run without its spec.
    """
    if not extra_args or FIELD not in extra_args:
        return None
    value = extra_args[FIELD]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _bad(f"is not JSON: {error}") from error
    if not isinstance(value, Mapping):
        raise _bad(f"is a {type(value).__name__}, not an object")
    unknown = sorted(set(value) - set(Spec.__dataclass_fields__))
    if unknown:
        raise _bad(f"has an unknown field {unknown[0]!r}")
    try:
        spec = Spec(
            key=_text(value, "key"),
            plan=None if value.get("plan") is None else _text(value, "plan"),
            response=None if value.get("response") is None else _count(value["response"]),
            turns=tuple(_count(turn) for turn in value.get("turns") or ()),
            spans=None
            if value.get("spans") is None
            else tuple((_count(start), _count(stop)) for start, stop in value["spans"]),
            pool=_flag(value, "pool"),
            layers=None if value.get("layers") is None else tuple(_count(layer) for layer in value["layers"]),
            norms=_flag(value, "norms"),
            probes=None if value.get("probes") is None else _text(value, "probes"),
            samples=_count(value.get("samples", 1)),
            reply=read_reply_spec(value.get("reply")),
            parts=read_parts(value.get("parts")),
            select=str(value.get("select", "response")),
            gate=read_gate_spec(value.get("gate")),
            before=_flag(value, "before"),
        )
    except (TypeError, ValueError) as error:
        raise _bad(str(error)) from error
    if any(start >= stop for start, stop in spec.spans or ()):
        raise _bad("has an empty span")
    if spec.layers is not None and not spec.layers:
        raise _bad("pools no layer")
    if spec.norms and not spec.pool:
        raise _bad("asks for norms without pooling")
    if spec.before and spec.probes is None:
        raise _bad("asks for projections before the plan without probes")
    if spec.select not in ("response", *PARTS):
        raise _bad(f"selects {spec.select!r}")
    return spec


def _bad(what: str) -> EngineError:
    return EngineError(
        f"the {FIELD} value of the request {what}",
        hint=f"fields are {', '.join(Spec.__dataclass_fields__)}",
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ValueError(f"has {name} {text!r}, where a text is needed")
    return text


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"has {value!r} where a number of 0 or more is needed")
    return value


def _flag(value: Mapping[str, Any], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        raise ValueError(f"has {name} {flag!r}, where true or false is needed")
    return flag
