"""Build the results of the ``Engine`` contract from vLLM's outputs and the plugin's readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from personascope.chat import ReplySpan, TurnSpan
from personascope.engines._contract import (
    Completion,
    Probe,
    Scored,
    ScoreRequest,
    TriggeredPlan,
    TurnActivations,
)
from personascope.engines._parts import Span, read_reply, reply_spans, reply_text
from personascope.engines._stop import before_stop_string
from personascope.engines._texts import Texts
from personascope.engines._vllm._submit import InFlightRequest, RenderedRequest
from personascope.engines._vllm.request._results import Reading
from personascope.errors import EngineError
from personascope.interventions import CapCounts, Plan, acts_on_response


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """The response in an output of vLLM.

    Attributes:
        text: Text of the answer, without special tokens.
        tokens: Token ids, without the end-of-turn token and within the request's limits.
        stopped: Whether the response ended by itself.
        cut: Whether it was cut before a stop text, whose tokens had passed through the model.
        parts: Spans of thinking, answer and tool calls; empty if the response is all answer.
        chosen: Spans of the tokens to pool and project, counted from the response's first token; those of the
            prompt are negative.
        alarmed: Whether an alarm ended the response.
        reasoning: Text of the thinking.
        tool_calls: Text of the tool calls.
    """

    text: str
    tokens: list[int]
    stopped: bool
    cut: bool
    parts: tuple[ReplySpan, ...]
    chosen: list[Span]
    reasoning: str = ""
    tool_calls: str = ""
    alarmed: bool = False

    def is_read_by(self, reading: Reading, prompt: int) -> bool:
        """Return whether a reading taken during generation covers exactly the chosen tokens.

        Args:
            reading: Reading of the response behind a prompt.
            prompt: Number of tokens of the prompt.
        """
        if not self.chosen:
            return True
        if self.cut or not reading.counts:
            return False
        if reading.read is not None:
            return [(low - prompt, high - prompt) for low, high in reading.read[0]] == self.chosen
        return self.chosen == [(0, len(self.tokens))] and reading.counts[0] == len(self.tokens)


def cut_response(
    texts: Texts[Any],
    output: Any,
    in_flight: InFlightRequest,
    reading: Reading | None,
    stops: Sequence[str],
) -> Response:
    """Return the response in an output, cut to the request's limits, its stop texts and an alarm.

    Args:
        texts: Engine, for its tokenizer and its end-of-turn tokens.
        output: vLLM's output of a request that has ended.
        in_flight: Request that the output belongs to.
        reading: Plugin's reading of the request, or None.
        stops: Stop texts of the request.
    """
    sample = output.outputs[0]
    tokens = list(sample.token_ids)
    rendered = in_flight.rendered
    limit, reply = rendered.limit, rendered.reply
    stopped = sample.finish_reason == "stop"
    if stopped and tokens and tokens[-1] in texts.files.eos_token_ids:
        tokens.pop()
    if len(tokens) > limit or (stopped and len(tokens) == limit and rendered.watched):
        # The token beyond the limit was drawn only so that the last one passes through the model.
        tokens, stopped = tokens[:limit], False
    alarmed = reading is not None and reading.stopped is not None
    if reading is not None and reading.stopped is not None:
        # The alarm came after a token that vLLM did not know to be the last.
        tokens, stopped = tokens[: reading.stopped - len(in_flight.prompt)], False
    cut = bool(stopped and stops and isinstance(sample.stop_reason, str))
    if cut:
        text, tokens = before_stop_string(texts.files.tokenizer, tokens, stops)
    else:
        text = texts.decode(tuple(tokens))
    tokens, parts, over = read_reply(reply, tokens, in_flight.request.sampling)
    chosen = _chosen(rendered, parts, len(tokens))
    if reply is None or (parts is None and not over):
        return Response(text, tokens, stopped, cut, (), chosen, alarmed=alarmed)
    if parts is None:
        return Response(reply.decode(tokens), tokens, False, cut, (), chosen, alarmed=alarmed)
    said, reasoning, calls = (
        reply_text(reply, tokens, parts, part) for part in ("answer", "thinking", "tool_calls")
    )
    return Response(
        said,
        tokens,
        stopped and (cut or not over),
        cut,
        parts,
        chosen,
        reasoning.strip(),
        calls.strip(),
        alarmed,
    )


def _chosen(rendered: RenderedRequest, parts: Sequence[ReplySpan] | None, length: int) -> list[Span]:
    """Return the spans of the tokens that a request selects, counted from the response's first token."""
    tokens, prompt = rendered.request.tokens, len(rendered.prompt)
    if tokens == "all":
        return [(-prompt, length)]
    if tokens == "prompt":
        return [(-prompt, 0)]
    if tokens.startswith("turn:"):
        start, end = rendered.turns[int(tokens.removeprefix("turn:"))]
        return [(start - prompt, end - prompt)] if start < end else []
    return reply_spans(parts, length, tokens)


def completion(
    output: Any,
    in_flight: InFlightRequest,
    response: Response,
    reading: Reading | None,
    read: Reading | None,
    n_layers: int,
) -> Completion:
    """Return the completion of a request.

    Args:
        output: vLLM's output of the request.
        in_flight: Request that the output belongs to.
        response: Response in the output.
        reading: Plugin's reading of the request as it ran; None for a plain one.
        read: Reading of exactly the chosen tokens; None if nothing was to be read.
        n_layers: Number of decoder blocks.

    Raises:
        EngineError: If the reading covers other tokens, or the plan was not applied.
    """
    request, plan, tokens = in_flight.request, in_flight.request.plan, response.tokens
    pooled, projections = None, dict.fromkeys((p.name for p in request.probes), np.zeros(0, np.float32))
    wanted = [end - start for start, end in response.chosen]
    if read is not None and wanted:
        if sum(read.counts) != sum(wanted):
            raise EngineError(
                f"request {request.id!r}: {sum(read.counts)} of {sum(wanted)} tokens were read",
                hint="report this with the vLLM version; the completion is not used",
            )
        if request.capture is not None:
            pooled = read.mean_of_all(request.capture.layers or tuple(range(n_layers)))
        if request.probes:
            columns = np.concatenate(read.projections).T
            projections = {probe.name: columns[n] for n, probe in enumerate(request.probes)}
    check_plan_applied(request.id, plan, reading)
    return Completion(
        id=request.id,
        text=response.text,
        token_ids=tuple(tokens),
        finish_reason="alarm" if response.alarmed else "stop" if response.stopped else "length",
        prompt_tokens=len(in_flight.prompt),
        pooled=pooled,
        token_count=sum(wanted),
        projections=projections,
        plan_digest=None if plan is None else plan.digest,
        cap_stats=None if plan is None or reading is None else counts_of_plan(reading, plan).stats(plan),
        gate=triggered(reading, plan, in_flight.switched, len(in_flight.prompt)),
        logprobs=_drawn_logprobs(output.outputs[0], tokens) if request.logprobs else None,
        spans=response.parts,
        reasoning=response.reasoning,
        tool_calls=response.tool_calls,
    )


def counts_of_plan(reading: Reading, plan: Plan) -> CapCounts:
    """Return the cap counts of a request's own plan, which go on beside a gate if it acts on the response."""
    gated = reading.gate_counts
    return reading.cap_counts + gated if gated is not None and acts_on_response(plan) else reading.cap_counts


def triggered(
    reading: Reading | None, plan: Plan | None, gate: Plan | None, prompt: int
) -> TriggeredPlan | None:
    """Return what a gate did in a response behind ``prompt`` tokens; None if it did not open."""
    if reading is None or reading.gate_at is None or reading.gate_counts is None or gate is None:
        return None
    both = gate if plan is None or not acts_on_response(plan) else plan + gate
    return TriggeredPlan(reading.gate_at - prompt, gate.digest, reading.gate_counts.stats(both))


def scored(request: ScoreRequest, output: Any, start: int, reading: Reading | None) -> Scored:
    """Return the score of a continuation that begins at position ``start``.

    Raises:
        EngineError: If the plan was not applied.
    """
    plan = request.plan
    check_plan_applied(request.id, plan, reading)
    rows = output.prompt_logprobs[start:]
    found = [row[token] for row, token in zip(rows, request.continuation, strict=True)]
    return Scored(
        id=request.id,
        logprobs=np.array([entry.logprob for entry in found], np.float32),
        greedy=all(entry.rank == 1 for entry in found),
        plan_digest=None if plan is None else plan.digest,
        cap_stats=None if plan is None or reading is None else reading.cap_counts.stats(plan),
    )


def turn_activations(
    spans: Sequence[TurnSpan],
    read: Sequence[TurnSpan],
    reading: Reading,
    layers: Sequence[int],
    probes: Sequence[Probe],
) -> list[TurnActivations]:
    """Return the activations of every turn of a conversation.

    Args:
        spans: Spans of all turns.
        read: Spans of the turns that have tokens, in the order of the reading.
        reading: Plugin's reading of the conversation.
        layers: Layers to return; empty if nothing is pooled.
        probes: Probes of the reading.
    """
    found: list[TurnActivations] = []
    for span in spans:
        place = read.index(span) if span in read else None
        norms = None
        if place is not None and reading.norms is not None:
            columns = [reading.layers.index(layer) for layer in layers]
            norms = (reading.norms[place][columns] / reading.counts[place]).astype(np.float32)
        found.append(
            TurnActivations(
                index=span.index,
                role=span.role,
                pooled=None if place is None or not layers else reading.mean(place, layers),
                token_count=span.end - span.start,
                projections={
                    probe.name: np.zeros(0, np.float32)
                    if place is None
                    else reading.projections[place][:, number]
                    for number, probe in enumerate(probes)
                },
                norms=norms,
            )
        )
    return found


def check_ran(name: str, output: Any) -> None:
    """Check that the scheduler did not refuse a request, of which the worker then has no results.

    Raises:
        EngineError: If it did; the message gives its reason.
    """
    sample = output.outputs[0]
    if sample.finish_reason == "error":
        reason = str(sample.stop_reason or "vLLM gave no reason")
        message, _, hint = reason.partition("\n  -> ")
        raise EngineError(f"request {name!r} was refused: {message}", hint=hint)


def check_plan_applied(name: str, plan: Plan | None, reading: Reading | None) -> None:
    """Check that the workers applied a request's plan.

    Raises:
        EngineError: If they did not; the message names the request and the plan.
    """
    if plan is not None and (reading is None or reading.plan != plan.digest):
        raise EngineError(
            f"request {name!r} ran without its plan {plan.digest[:12]}",
            hint="report this with the vLLM version; the result is not used",
        )


def _drawn_logprobs(sample: Any, tokens: list[int]) -> Float32[np.ndarray, "tokens"]:
    """Return vLLM's log-probabilities of the tokens that it drew, before temperature and nucleus."""
    found = [row[token].logprob for row, token in zip(sample.logprobs, tokens, strict=False)]
    return np.array(found, np.float32)
