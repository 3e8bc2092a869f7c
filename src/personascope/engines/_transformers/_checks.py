"""Refusing what cannot be honoured, before anything runs."""

from __future__ import annotations

import numpy as np

from personascope.engines._contract import Request
from personascope.errors import EngineError
from personascope.models import LoadedModel


def check_request(request: Request, loaded: LoadedModel) -> None:
    """Raise on a request that this engine and model cannot honour as it stands.

    Raises:
        EngineError: Naming the request, the value and the mend.
    """
    name = f"request {request.id!r}"
    sampling = request.sampling
    if request.plan is not None:
        raise EngineError(
            f"{name} carries the plan {request.plan.digest}, and this engine applies no plans",
            mend="send the request without a plan, or use an engine that applies plans",
        )
    if sampling.max_new_tokens < 1 or sampling.min_new_tokens > sampling.max_new_tokens:
        raise EngineError(
            f"{name} asks for {sampling.min_new_tokens} to {sampling.max_new_tokens} new tokens",
            mend="max_new_tokens must be at least 1 and at least min_new_tokens",
        )
    if not 0 < sampling.top_p <= 1 or not 0 <= sampling.temperature < np.inf:
        raise EngineError(
            f"{name} has temperature {sampling.temperature} and top_p {sampling.top_p}",
            mend="temperature must be 0 or more, top_p in (0, 1]",
        )
    layers = [probe.layer for probe in request.probes]
    if request.capture is not None and request.capture.layers is not None:
        layers += request.capture.layers
        if not request.capture.layers:
            raise EngineError(f"{name} captures no layer", mend="name layers, or pass capture=None")
    for layer in layers:
        if not 0 <= layer < loaded.n_layers:
            raise EngineError(
                f"{name} reads layer {layer} of {loaded.model_id}, which has {loaded.n_layers}",
                mend=f"layers are 0-based: 0 to {loaded.n_layers - 1}",
            )
    for probe in request.probes:
        if probe.direction.shape != (loaded.d_model,) or not np.isfinite(probe.direction).all():
            raise EngineError(
                f"{name}: probe {probe.name!r} has shape {probe.direction.shape} or a non-finite value",
                mend=f"a direction of {loaded.model_id} is {loaded.d_model} finite numbers",
            )
    if len({probe.name for probe in request.probes}) < len(request.probes):
        raise EngineError(f"{name} has two probes of one name", mend="give each probe its own name")
    if not request.prompt:
        raise EngineError(f"{name} has an empty prompt", mend="pass at least one message or token id")
