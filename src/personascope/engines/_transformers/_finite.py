"""Detect values that are not finite per request, and raise once the other requests are done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from personascope.engines._contract import Request, ScoreRequest, TurnActivations
from personascope.errors import EngineError


def finite_rows(logits: Tensor) -> list[bool]:
    """Return for each row of logits [rows, vocabulary] whether it holds no NaN or positive infinity.

    Only the maximum is tested, so that tokens masked with negative infinity are allowed.
    """
    return torch.isfinite(logits.amax(-1)).tolist()


def check_turns(request: Request, turns: Sequence[TurnActivations], dtype: str) -> None:
    """Check that the activations read from a conversation are finite.

    Raises:
        EngineError: If they are not; the message names the dtype, and the plan if there is one.
    """
    for turn in turns:
        read = [*turn.projections.values(), *(part for part in (turn.pooled, turn.norms) if part is not None)]
        if not all(np.isfinite(part).all() for part in read):
            failures = Failures(dtype)
            failures.add(request)
            failures.check()


class Failures:
    """Collector of requests whose activations or logits were not finite, while the others continue.

    Attributes:
        dtype: Name of the dtype of the model's weights.
        requests: Failed requests, in the order of failure.
    """

    def __init__(self, dtype: str) -> None:
        """Begin with none."""
        self.dtype = dtype
        self.requests: list[Request | ScoreRequest] = []

    def add(self, request: Request | ScoreRequest) -> None:
        """Add a failed request."""
        self.requests.append(request)

    def check(self) -> None:
        """Raise if any request failed.

        Raises:
            EngineError: If one did; the message names the first requests, the dtype and the first one's plan.
        """
        if not self.requests:
            return
        first, *rest = self.requests
        names = ", ".join(repr(request.id) for request in self.requests[:3])
        more = f" and {len(rest) - 2} more" if len(rest) > 2 else ""
        if first.plan is not None:
            cause = f" under the plan {first.plan.digest}"
            hint = "make the plan weaker, or load the model with --dtype float32 and see whether it lasts"
        else:
            cause = ""
            hint = (
                "load the model with --dtype bfloat16 or float32"
                if self.dtype == "float16"
                else ("check the model's weights: personascope doctor --model NAME")
            )
        raise EngineError(
            f"request {names}{more}: activations or logits are not finite in {self.dtype}{cause}", hint=hint
        )
