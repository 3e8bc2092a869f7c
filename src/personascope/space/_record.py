"""Schema of ``map.json``, and the shapes of the tensors that belong to it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from personascope.errors import StoreError
from personascope.space._checks import FOLLOWED, MapChecks, OtherVectors, RolePlay
from personascope.space._curve import CurvePoint, LearningCurve
from personascope.space._meta import MapModel
from personascope.space._space import Space, SpaceStats
from personascope.store import Record, short

_DIMENSIONS = re.compile(r"\[np\.ndarray, ['\"]([^'\"]*)['\"]\]")
REQUIRED = (
    "axis", "default_vector", "role_vectors", "somewhat_vectors", "mean", "components",
    "response_norms", "quantiles.role", "quantiles.default",
)  # fmt: skip
"""Names of the tensors that every map has."""


class _Profile(Record):
    model_config = ConfigDict(extra="allow")

    name: str
    seed: int
    roles: int
    prompts: int | None
    questions: int
    max_new_tokens: int


class _ChecksRecord(Record):
    design: str
    profile: _Profile
    vectors: Literal["played", "rubric"]
    threshold: float | None
    roles: dict[str, RolePlay]
    cut: float
    garbled: float
    perplexity: float | None
    n_roles: int
    length_adjusted: bool = False
    judges: dict[str, int] = Field(default_factory=dict[str, int])
    cosines: list[list[float]] = Field(default_factory=list[list[float]])
    other: OtherVectors | None = None

    def made(self, correlations: np.ndarray) -> MapChecks:
        """Return the checks, with the correlations from the map's tensors."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "profile"}
        return MapChecks(**values, profile=self.profile.model_dump(), correlations=correlations)


class _CurveRecord(Record):
    layer: int
    points: list[CurvePoint]
    until: list[str]
    stop: str

    def made(self) -> LearningCurve:
        """Return the curve."""
        return LearningCurve(self.layer, tuple(self.points), tuple(self.until), self.stop)


class MapRecord(Record):
    """Fields of ``map.json``; maps of earlier versions have no digests of single tensors."""

    pair: str
    sha256: str
    tensors: list[str]
    digests: dict[str, str | list[str]] | None = None
    roles: list[str] = Field(min_length=1)
    somewhat: list[str]
    excluded: dict[str, int]
    counts: dict[str, dict[str, int]]
    model: MapModel
    middle_layer: int
    min_fully: int
    min_somewhat: int
    corpus_digest: str
    versions: dict[str, str]
    command: str
    percentiles: list[int] = Field(min_length=1)
    stats: dict[str, int]
    checks: _ChecksRecord | None = None
    curve: _CurveRecord | None = None

    def check(self, path: Path, shapes: Mapping[str, tuple[int, ...]], hint: str) -> None:
        """Check that the fields are consistent with each other and with the tensors.

        Args:
            path: File of the record, for messages.
            shapes: Tensor name -> shape, of all tensors in the map.
            hint: Hint of the error.

        Raises:
            StoreError: If something is inconsistent; the message names the first inconsistency.
        """
        for wrong in self._wrong(shapes):
            raise StoreError(f"{path}: {wrong}", hint=hint)

    def _wrong(self, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        n_layers = self.model.n_layers
        if n_layers < 1 or self.model.d_model < 1:
            yield f"the model has {n_layers} layers of {self.model.d_model}"
        if not 0 <= self.middle_layer < n_layers:
            yield f"the field 'middle_layer' is {self.middle_layer}: the model has {n_layers} layers"
        for name in ("roles", "somewhat"):
            listed: list[str] = getattr(self, name)
            if len(set(listed)) < len(listed):
                yield f"the field {name!r} names a role twice"
            if uncounted := sorted(set(listed) - set(self.counts)):
                yield f"the field 'counts' lacks the role {short(uncounted[0])}"
        for name, row in self.counts.items():
            if lacking := sorted({"fully", "somewhat"} - set(row)):
                yield f"the field 'counts' says nothing of {lacking[0]!r} of {short(name)}"
        if sorted(set(self.percentiles)) != self.percentiles:
            yield f"the field 'percentiles' is {short(self.percentiles)}, which does not ascend"
        expected = {*REQUIRED, *self.tensors, *(["checks.correlations"] if self.checks else [])}
        if lost := sorted(expected - set(shapes)):
            yield f"the tensors {', '.join(lost)} are missing"
        if self.digests is not None and (lost := sorted(expected - set(self.digests))):
            yield f"the field 'digests' lacks {', '.join(lost)}"
        sizes = {
            "L": n_layers, "d": self.model.d_model, "R": len(self.roles), "S": len(self.somewhat),
            "Q": len(self.percentiles), "F": len(FOLLOWED),
        }  # fmt: skip
        for name in sorted(expected):
            if (symbols := DIMENSIONS.get(name)) is None:
                continue
            shape = shapes[name]
            wanted = tuple(
                int(one) if one.isdigit() else sizes.setdefault(one, size)
                for one, size in zip(symbols, shape, strict=False)
            )
            if len(symbols) != len(shape) or wanted != shape:
                named = ", ".join(str(sizes.get(one, one)) for one in symbols)
                yield f"the tensor {name} has shape {list(shape)}, and belongs to a map with [{named}]"


def _dimensions() -> dict[str, tuple[str, ...]]:
    """Return tensor name -> dimension symbols, read from the annotations of `Space` and `SpaceStats`."""
    found: dict[str, tuple[str, ...]] = {
        "response_norms": ("L",),
        "quantiles.role": ("L", "Q"),
        "quantiles.default": ("L", "Q"),
        "checks.correlations": ("L", "N", "F"),
    }
    for prefix, of in (("", Space), ("stats.", SpaceStats)):
        for field in dataclasses.fields(of):
            if match := _DIMENSIONS.search(str(field.type)):
                found[prefix + field.name] = tuple(match[1].split())
    return found


DIMENSIONS = _dimensions()
"""Tensor name -> dimension symbols: L layers, d width, R roles, S "somewhat" vectors, Q percentiles, ..."""


def tensor_digest(value: np.ndarray) -> str:
    """Return the SHA-256 (hex) of an array's dtype, shape and values."""
    found = hashlib.sha256(f"{value.dtype.str} {list(value.shape)}\n".encode())
    found.update(np.ascontiguousarray(value).data)
    return found.hexdigest()


def tensor_digests(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the digest of every tensor; a three-dimensional tensor gets one digest per layer.

    Such tensors are large and are read layer by layer.
    """
    return {
        name: [tensor_digest(layer) for layer in value] if value.ndim == 3 else tensor_digest(value)
        for name, value in arrays.items()
    }
