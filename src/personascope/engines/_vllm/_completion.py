"""Build the results of the ``Engine`` contract from vLLM's outputs and the plugin's readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from personascope.chat import ReplySpan, TurnSpan
from personascope.engines._contract import Completion, Probe, Scored, ScoreRequest, TurnActivations
from personascope.engines._parts import Span, read_reply, reply_spans, reply_text
from personascope.engines._stop import before_stop_string
from personascope.engines._texts import Texts
from personascope.engines._vllm._submit import InFlightRequest
from personascope.engines._vllm.request._results import Reading
from personascope.errors import EngineError
from personascope.interventions import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """The response in an output of vLLM.

    Attributes:
        text: Text of the answer, without special tokens.
        tokens: Token ids, without the end-of-turn token and within the request's limits.
        stopped: Whether the response ended by itself.
        cut: Whether it was cut before a stop text, whose tokens had passed through the model.
        parts: Spans of thinking, answer and tool calls; empty if the response is all answer.
        chosen: Spans of the tokens to pool and project, counted from the first token.
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

    def is_read_by(self, reading: Reading) -> bool:
        """Return whether a reading taken during generation covers exactly the chosen tokens."""
        whole = self.chosen == [(0, len(self.tokens))] and reading.counts[0] == len(self.tokens)
        return not self.chosen or (whole and not self.cut)


def cut_response(
    texts: Texts[Any], output: Any, in_flight: InFlightRequest, stops: Sequence[str]
) -> Response:
    """Return the response in an output, cut to the request's limits and stop texts.

    Args:
        texts: Engine, for its tokenizer and its end-of-turn tokens.
        output: vLLM's output of a request that has ended.
        in_flight: Request that the output belongs to.
        stops: Stop texts of the request.
    """
    sample = output.outputs[0]
    tokens = list(sample.token_ids)
    limit, reply = in_flight.limit, in_flight.reply
    stopped = sample.finish_reason == "stop"
    if stopped and tokens and tokens[-1] in texts.files.eos_token_ids:
        tokens.pop()
    if len(tokens) > limit or (stopped and len(tokens) == limit and in_flight.watched):
        # The token beyond the limit was drawn only so that the last one passes through the model.
        tokens, stopped = tokens[:limit], False
    cut = bool(stopped and stops and isinstance(sample.stop_reason, str))
    if cut:
        text, tokens = before_stop_string(texts.files.tokenizer, tokens, stops)
    else:
        text = texts.decode(tuple(tokens))
    tokens, parts, over = read_reply(reply, tokens, in_flight.request.sampling)
    chosen = reply_spans(parts, len(tokens), in_flight.request.tokens)
    if reply is None or (parts is None and not over):
        return Response(text, tokens, stopped, cut, (), chosen)
    if parts is None:
        return Response(reply.decode(tokens), tokens, False, cut, (), chosen)
    said, reasoning, calls = (
        reply_text(reply, tokens, parts, part) for part in ("answer", "thinking", "tool_calls")
    )
    return Response(said, tokens, stopped and not over, cut, parts, chosen, reasoning.strip(), calls.strip())


def completion(
    output: Any, in_flight: InFlightRequest, response: Response, reading: Reading | None, n_layers: int
) -> Completion:
    """Return the completion of a request.

    Args:
        output: vLLM's output of the request.
        in_flight: Request that the output belongs to.
        response: Response in the output.
        reading: Plugin's reading of exactly the chosen tokens of the response; None for a plain request.
        n_layers: Number of decoder blocks.

    Raises:
        EngineError: If the reading covers other tokens, or the plan was not applied.
    """
    request, plan, tokens = in_flight.request, in_flight.request.plan, response.tokens
    pooled, projections = None, dict.fromkeys((p.name for p in request.probes), np.zeros(0, np.float32))
    wanted = [end - start for start, end in response.chosen]
    if reading is not None and in_flight.watched and wanted:
        if list(reading.counts) != wanted:
            raise EngineError(
                f"request {request.id!r}: {sum(reading.counts)} of {sum(wanted)} response tokens were read",
                hint="report this with the vLLM version; the completion is not used",
            )
        if request.capture is not None:
            pooled = reading.mean_of_all(request.capture.layers or tuple(range(n_layers)))
        if request.probes:
            columns = np.concatenate(reading.projections).T
            projections = {probe.name: columns[n] for n, probe in enumerate(request.probes)}
    check_plan_applied(request.id, plan, reading)
    return Completion(
        id=request.id,
        text=response.text,
        token_ids=tuple(tokens),
        finish_reason="stop" if response.stopped else "length",
        prompt_tokens=len(in_flight.prompt),
        pooled=pooled,
        token_count=sum(wanted),
        projections=projections,
        plan_digest=None if plan is None else plan.digest,
        cap_stats=None if plan is None or reading is None else reading.cap_counts.stats(plan),
        logprobs=_drawn_logprobs(output.outputs[0], tokens) if request.logprobs else None,
        spans=response.parts,
        reasoning=response.reasoning,
        tool_calls=response.tool_calls,
    )


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
