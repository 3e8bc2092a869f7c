"""Reading what the workers send back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load

from personascope.errors import EngineError
from personascope.interventions import Tally


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read from one request.

    Attributes:
        plan: Digest of the plan that was applied, or None.
        counts: Tokens of each span.
        layers: Layers of the sums.
        sums: [spans, layers, d] float32, or None.
        norms: Sums of the tokens' norms, [spans, layers], or None.
        projections: For each span [tokens, probes] float32.
        tally: What the plan did.
    """

    plan: str | None
    counts: list[int]
    layers: list[int]
    sums: np.ndarray | None
    norms: np.ndarray | None
    projections: list[np.ndarray]
    tally: Tally

    def mean(self, span: int, layers: Sequence[int]) -> np.ndarray | None:
        """Return the mean over a span at some layers, [layers, d]; None for an empty span."""
        if self.sums is None or not self.counts[span]:
            return None
        places = [self.layers.index(layer) for layer in layers]
        return self.sums[span][places] / np.float32(self.counts[span])


def read_results(blobs: Sequence[bytes]) -> dict[str, Reading]:
    """Read the answer of every worker to a fetch.

    With tensor parallelism the residual stream is the same on every worker; the first one's is taken.

    Raises:
        EngineError: If two workers disagree about what they did.
    """
    parts = [_parse(blob) for blob in blobs]
    return {key: _merge(key, [part[key] for part in parts]) for key in parts[0]}


def _parse(blob: bytes) -> dict[str, Reading]:
    arrays = load(blob)
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    found: dict[str, Reading] = {}
    for key, meta in json.loads(header["__metadata__"]["results"]).items():
        at = meta["place"]
        tally = meta.get("tally")
        found[key] = Reading(
            plan=meta["plan"],
            counts=meta["counts"],
            layers=meta.get("layers", []),
            sums=arrays.get(f"{at}.sums"),
            norms=arrays.get(f"{at}.norms"),
            projections=[arrays[f"{at}.projections.{number}"] for number in range(len(meta["counts"]))]
            if "probes" in meta
            else [],
            tally=Tally()
            if tally is None
            else Tally(
                tally["tokens"],
                tally["capped"],
                {int(layer): count for layer, count in tally["fired"].items()},
                {int(layer): length for layer, length in tally["moved"].items()},
                tally["greatest"],
            ),
        )
    return found


def _merge(key: str, parts: list[Reading]) -> Reading:
    first = parts[0]
    if any(
        (part.counts, part.plan, part.layers) != (first.counts, first.plan, first.layers) for part in parts
    ):
        raise EngineError(
            f"the workers read different tokens of request {key!r}: {[part.counts for part in parts]}",
            mend="report this with the vLLM version and the parallelism; the results are not used",
        )
    return first
