"""Check requests before anything runs, and raise on what cannot be honoured."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from personascope.chat import Conversation, Message, ReplyFormat
from personascope.engines._capabilities import EngineKey, unsupported
from personascope.engines._contract import Request
from personascope.engines._gate import GateWatch, acts_too_late, lacks_parts, lacks_probe
from personascope.engines._parts import check_reply_parts, check_tokens
from personascope.errors import EngineError, InterventionError
from personascope.interventions import Plan, acts_on_response
from personascope.models import LoadedModel


class ModelShape(Protocol):
    """Identity and shape of a model, which requests are checked against."""

    @property
    def model_id(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def n_layers(self) -> int: ...
    @property
    def d_model(self) -> int: ...


def check_request(request: Request, loaded: ModelShape) -> None:
    """Check that a request's plan, sampling, layers and probes are valid for a model.

    Raises:
        EngineError: If they are not; the message names the request and the value.
        UsageError: If there is no such selection of tokens.
    """
    name = f"request {request.id!r}"
    sampling = request.sampling
    if request.plan is not None:
        check_plan(name, request.plan, request.prompt, loaded)
    if sampling.max_new_tokens < 1 or sampling.min_new_tokens > sampling.max_new_tokens:
        raise EngineError(
            f"{name} asks for {sampling.min_new_tokens} to {sampling.max_new_tokens} new tokens",
            hint="max_new_tokens must be at least 1 and at least min_new_tokens",
        )
    if not 0 < sampling.top_p <= 1 or not 0 <= sampling.temperature < np.inf:
        raise EngineError(
            f"{name} has temperature {sampling.temperature} and top_p {sampling.top_p}",
            hint="temperature must be 0 or more, top_p in (0, 1]",
        )
    if sampling.max_thinking_tokens is not None and sampling.max_thinking_tokens < 1:
        raise EngineError(
            f"{name} allows {sampling.max_thinking_tokens} thinking tokens",
            hint="give 1 or more; thinking is switched off in the chat options, where the template can",
        )
    is_chat = bool(request.prompt) and isinstance(request.prompt[0], Message)
    check_tokens(request.tokens, len(request.prompt) if is_chat else 0)
    if not all(sampling.stop):
        raise EngineError(f"{name} has an empty text among its stop texts", hint="leave it out")
    layers = [probe.layer for probe in request.probes]
    if request.capture is not None and request.capture.layers is not None:
        layers += request.capture.layers
        if not request.capture.layers:
            raise EngineError(f"{name} captures no layer", hint="name layers, or pass capture=None")
    for layer in layers:
        if not 0 <= layer < loaded.n_layers:
            raise EngineError(
                f"{name} reads layer {layer} of {loaded.model_id}, which has {loaded.n_layers}",
                hint=f"layers are 0-based: 0 to {loaded.n_layers - 1}",
            )
    for probe in request.probes:
        if probe.direction.shape != (loaded.d_model,) or not np.isfinite(probe.direction).all():
            raise EngineError(
                f"{name}: probe {probe.name!r} has shape {probe.direction.shape} or a non-finite value",
                hint=f"a direction of {loaded.model_id} is {loaded.d_model} finite numbers",
            )
    if isinstance(request.watch, GateWatch):
        wanted = request.watch.gate().probe
        if wanted not in {probe.name for probe in request.probes}:
            raise lacks_probe(wanted)
    if request.watch is not None and not request.probes:
        raise EngineError(
            f"{name} has a watch and no probe", hint="give it a probe, whose projections it sees"
        )
    if len({probe.name for probe in request.probes}) < len(request.probes):
        raise EngineError(f"{name} has two probes of one name", hint="give each probe its own name")
    if not request.prompt:
        raise EngineError(f"{name} has an empty prompt", hint="pass at least one message or token id")


def check_length(request_id: str, n_tokens: int, context: int | None, *, room: int = 0) -> None:
    """Check that tokens fit a model's context.

    Args:
        request_id: Id of the request, for the error.
        n_tokens: Number of tokens of the request.
        context: Context length of the model in tokens; None if unknown.
        room: Number of response tokens that must fit in addition.

    Raises:
        EngineError: If they do not fit.
    """
    if context is not None and n_tokens + room > context:
        raise EngineError(
            f"request {request_id!r} has {n_tokens} tokens, and the model reads {context}",
            hint="shorten the conversation, or use a model with a longer context",
        )


def check_characters(
    request_id: str, conversation: Conversation, context: int | None, longest_token: int
) -> None:
    """Check, before tokenisation, that a conversation is not too long for the context by its characters.

    Args:
        request_id: Id of the request, for the error.
        conversation: Messages of the request.
        context: Context length of the model in tokens; None if unknown.
        longest_token: Number of characters of the vocabulary's longest token.

    Raises:
        EngineError: If it has more characters than ``context`` of the longest tokens.
    """
    if context is None:
        return
    characters = sum(len(message.content) for message in conversation)
    if characters > context * longest_token:
        raise EngineError(
            f"request {request_id!r} has {characters:,} characters, and the model reads {context} tokens",
            hint="shorten the conversation, or use a model with a longer context",
        )


def check_plan(name: str, plan: Plan, prompt: Conversation | tuple[int, ...], loaded: ModelShape) -> None:
    """Check that a plan can act on a model and a prompt.

    Raises:
        EngineError: If it is no plan, is of another model or dtype, or names a turn that does not exist.
    """
    if not isinstance(plan, Plan):
        digest = getattr(plan, "digest", plan)
        raise EngineError(
            f"{name} carries a {type(plan).__name__} ({digest}) as its plan",
            hint="pass a personascope.interventions.Plan, or None for a plain run",
        )
    try:
        plan.check_model(
            model_id=loaded.model_id,
            revision=loaded.revision,
            n_layers=loaded.n_layers,
            d_model=loaded.d_model,
        )
        if isinstance(loaded, LoadedModel):
            # Only a loaded model has a dtype here; vLLM's scheduler checks its own.
            plan.check_dtype(loaded.dtype)
    except InterventionError as error:
        raise EngineError(f"{name}: {error.message}", hint=error.hint) from error
    is_conversation = bool(prompt) and isinstance(prompt[0], Message)
    for where in (op.tokens for op in plan.ops if op.tokens.startswith("turn:")):
        if not is_conversation:
            raise EngineError(
                f"{name} has a plan that acts from {where} on, and its prompt is token ids",
                hint="pass the conversation instead, so that its turns can be found",
            )
        if int(where.removeprefix("turn:")) >= len(prompt):
            raise EngineError(
                f"{name} has a plan that acts from {where} on, and a conversation of {len(prompt)} messages",
                hint=f"messages are counted from 0: name one up to turn:{len(prompt) - 1}, or response",
            )


def check_gate(request: Request, loaded: ModelShape, reply: ReplyFormat | None) -> Plan | None:
    """Check a request's gate before the request runs, and return the plan that it switches on.

    Args:
        request: Request; its watch is a `GateWatch`, or it has no gate.
        loaded: Model that it runs on.
        reply: Format of the response's parts; None if it is all answer.

    Raises:
        EngineError: If it reads a part that the response does not have, or its plan cannot act there.
    """
    if not isinstance(request.watch, GateWatch):
        return None
    gate, tokens = request.watch.gate(), request.watch.tokens
    if tokens not in ("response", "answer") and reply is None:
        raise lacks_parts(f"the gate reads the {tokens}")
    if not isinstance(gate.action, Plan):
        return None
    check_plan("the gate", gate.action, request.prompt, loaded)
    if not acts_on_response(gate.action):
        raise acts_too_late()
    check_reply_parts("the gate", gate.action, "response", reply)
    if request.plan is not None:
        try:
            both = request.plan + gate.action
        except InterventionError as error:
            raise EngineError(error.message, hint=error.hint) from error
        check_plan("the gate", both, request.prompt, loaded)
    return gate.action


def refuse_watch(request: Request, engine: EngineKey) -> None:
    """Refuse a watch, for an engine that cannot call one between tokens.

    Raises:
        EngineError: If the request has a watch.
    """
    if request.watch is not None:
        raise unsupported(engine, "watch", f"request {request.id!r} asks for")
