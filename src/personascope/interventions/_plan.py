"""Define the Plan: which operations act at which layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from personascope.errors import InterventionError
from personascope.identity import ModelIdentity
from personascope.interventions._form import check_plan, read_plan, write_plan
from personascope.interventions._ops import Ablate, Cap, Op, Steer, check_number, shown, turn_of
from personascope.text import html_card, shorten


@dataclass(frozen=True, slots=True)
class PlanModel:
    """The model that a plan's directions belong to.

    Attributes:
        id: Name of the model.
        revision: Git commit, SHA-256 or fingerprint of its files; empty if unknown.
        n_layers: Number of decoder blocks.
        d_model: Width of the residual stream.
        chat_date: Date that its chat template wrote when the directions were made, "" for a template that
            writes none. It is informative and tells no models apart.

    Raises:
        InterventionError: If a value is malformed.
    """

    id: str
    revision: str
    n_layers: int
    d_model: int
    chat_date: str = field(default="", compare=False)

    @property
    def record(self) -> dict[str, Any]:
        """Model as JSON values."""
        dated = {"chat_date": self.chat_date} if self.chat_date else {}
        return {key: getattr(self, key) for key in ("id", "revision", "n_layers", "d_model")} | dated

    def __post_init__(self) -> None:
        """Check the values."""
        check_text("the plan's model has the id", self.id)
        check_text("the plan's model has the revision", self.revision)
        for name in ("n_layers", "d_model"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
                raise InterventionError(
                    f"the plan's model has {name} {shown(value)}", hint="give a whole number of 1 or more"
                )


@dataclass(frozen=True, eq=False)
class Plan:
    """Operations on the residual stream, in the order in which they act at their layer.

    Plans can be added: the second one's operations act after the first one's. Plans with the same digest do
    the same.

    Attributes:
        ops: Operations, at least one, all of one width; one operation may stand alone.
        model: Model that the directions were made with; an engine refuses the plan for another one. None lets
            the plan act on any model of the same width.
        name: Name in tables and explanations.

    Raises:
        InterventionError: If there is no operation, widths differ, a layer is not one of the
            model's, or caps of one layer cannot hold together.
    """

    ops: tuple[Op, ...]
    model: PlanModel | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse a plan that cannot be applied."""
        alone = isinstance(self.ops, Steer | Ablate | Cap)
        if not alone and not isinstance(self.ops, Iterable):
            raise InterventionError(
                f"the plan is made of {shown(self.ops)}", hint="give operations: Plan((Steer(...), Cap(...)))"
            )
        object.__setattr__(self, "ops", (self.ops,) if alone else tuple(self.ops))
        check_text("the plan has the name", self.name)
        if not self.ops:
            raise InterventionError(
                "the plan holds no operation", hint="for a plain run pass None instead of a plan"
            )
        for op in self.ops:
            if not isinstance(op, Steer | Ablate | Cap):
                raise InterventionError(
                    f"the plan holds {type(op).__name__}", hint="operations are Steer, Ablate and Cap"
                )
        widths = {op.direction.size for op in self.ops}
        if len(widths) > 1:
            raise InterventionError(
                f"the plan's directions are {', '.join(map(str, sorted(widths)))} wide",
                hint="all directions of a plan are as wide as one model's residual stream",
            )
        if self.model is not None:
            self._check_shape(self.model.id, self.model.n_layers, self.model.d_model)
        for layer in self.layers:
            for group in self.stages(layer):
                if isinstance(group[0], Cap) and len(group) > 1:
                    # Import here, because plans with one cap per layer do not need torch.
                    from personascope.interventions._caps import check_together

                    check_together(layer, [op for op in group if isinstance(op, Cap)])

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers on which an operation acts, ascending."""
        return tuple(sorted({op.layer for op in self.ops}))

    @property
    def d_model(self) -> int:
        """Width of the directions."""
        return self.ops[0].direction.size

    def stages(self, layer: int) -> tuple[tuple[Op, ...], ...]:
        """Return a layer's operations in order, with neighbouring caps grouped, since they hold together."""
        ops = [op for op in self.ops if op.layer == layer]
        return tuple(
            stage
            for is_cap, group in groupby(ops, key=lambda op: isinstance(op, Cap))
            for stage in ([tuple(group)] if is_cap else [(op,) for op in group])
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that changes an activation, without the name and the model."""
        sha = hashlib.sha256()
        for op in self.ops:
            sha.update(json.dumps(describe(op), sort_keys=True).encode())
            sha.update(np.ascontiguousarray(op.direction, "<f4").tobytes())
        return sha.hexdigest()

    def __add__(self, other: Plan) -> Plan:
        """Return a plan with the operations of both, these first.

        Raises:
            InterventionError: If the plans are of different models or widths.
        """
        if self.model is not None and other.model is not None and self.model != other.model:
            raise InterventionError(
                f"a plan of {self.model.id} and one of {other.model.id} cannot be added",
                hint="make both for one model, or say for_model(...) of one of them",
            )
        name = " + ".join(filter(None, (self.name, other.name)))
        return Plan(self.ops + other.ops, self.model or other.model, name)

    def for_model(self, model: PlanModel | None) -> Plan:
        """Return the same operations for another model, such as the base model of an instruct one.

        Raises:
            InterventionError: If the operations do not fit its layers or width.
        """
        return replace(self, model=model)

    def check_model(self, *, model_id: str, revision: str, n_layers: int, d_model: int) -> None:
        """Refuse a model other than the plan's, or one whose shape does not fit.

        Raises:
            InterventionError: If so; the message names what differs.
        """
        if self.model is not None:
            # The shape is checked below: a plan may act on a model of another shape if it fits.
            ModelIdentity(self.model.id, self.model.revision).require_same(
                ModelIdentity(model_id, revision),
                self._title,
                error=InterventionError,
                hint="make the plan from this model's map, or say plan.for_model(...) if you mean it",
            )
        self._check_shape(model_id, n_layers, d_model)

    def check_dtype(self, dtype: str) -> None:
        """Refuse a dtype that cannot hold an amount or bound of the plan.

        Args:
            dtype: Dtype of the model: "float32", "bfloat16" or "float16".

        Raises:
            InterventionError: If so; the message names the operation, the number and the dtype.
        """
        for op in self.ops:
            name = f"{self._title}: {type(op).__name__} at layer {op.layer}"
            numbers = {"strength times norm": op.amount} if isinstance(op, Steer) else describe(op)
            for quantity in ("strength times norm", "to", "floor", "ceiling"):
                if numbers.get(quantity) is not None:
                    check_number(name, quantity, numbers[quantity], dtype)

    def _check_shape(self, model_id: str, n_layers: int, d_model: int) -> None:
        if self.d_model != d_model:
            raise InterventionError(
                f"{self._title} has directions of width {self.d_model}, {model_id} is {d_model} wide",
                hint="make the plan from this model's map",
            )
        if self.layers[-1] >= n_layers:
            raise InterventionError(
                f"{self._title} acts at layer {self.layers[-1]}, {model_id} has {n_layers} layers",
                hint=f"layers are 0-based: 0 to {n_layers - 1}",
            )

    @property
    def _title(self) -> str:
        return f"the plan {self.name or self.digest[:12]!r}"

    def __repr__(self) -> str:
        """Return the name, what acts at which layers, and the digest, on one line."""
        kinds = [type(op).__name__.lower() for op in self.ops]
        what = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        return f"Plan({shorten(self.name)}: {what} at {_spans(list(self.layers))}; {self.digest[:12]})"

    def _repr_html_(self) -> str:
        """Return a card for a notebook, with what happens where."""
        head, *lines = self.explain().splitlines()
        return html_card(head, text="\n".join(lines))

    def explain(self) -> str:
        """Return what happens where, in words."""
        whose = f" for {self.model.id}" if self.model else ""
        lines = [f"Plan {self.name or '(no name)'}{whose}, digest {self.digest[:12]}:"]
        lines += [f"- {text}" for text in _sentences(self.ops)]
        shared = [layer for layer in self.layers if any(len(stage) > 1 for stage in self.stages(layer))]
        if shared:
            lines.append(f"- caps of one layer hold together ({_spans(shared)}).")
        return "\n".join(lines)

    def save(self, folder: Path | str) -> None:
        """Write ``plan.json`` and ``plan.safetensors`` into a folder.

        If the replacement of an earlier plan is interrupted, `load` notices.

        Raises:
            StoreError: If the folder cannot be written, or holds something that is not a plan.
        """
        model = self.model
        record = {
            "name": self.name,
            "digest": self.digest,
            "model": None if model is None else model.record,
            "ops": [describe(op) for op in self.ops],
            "explanation": self.explain(),
        }
        write_plan(Path(folder), record, [op.direction for op in self.ops])

    @classmethod
    def load(cls, folder: Path | str) -> Plan:
        """Read a saved plan.

        Raises:
            StoreError: If a file is missing or damaged.
            InterventionError: If the files hold no plan, or not the one whose digest they name.
        """
        return cls.of_files(*read_plan(Path(folder)), whose=str(folder))

    @classmethod
    def of_files(cls, record: Any, tensors: bytes, *, whose: str = "the plan") -> Plan:
        """Return the plan in the contents of its two files, wherever they came from.

        Args:
            record: Contents of ``plan.json``.
            tensors: Contents of ``plan.safetensors``.
            whose: Name of the plan in errors.

        Raises:
            StoreError: If the tensors are damaged.
            InterventionError: If they hold no plan, or not the one whose digest they name.
        """
        record, directions = check_plan(record, tensors, whose)
        try:
            ops = tuple(
                _operation(item, direction) for item, direction in zip(record["ops"], directions, strict=True)
            )
            model = None if record["model"] is None else PlanModel(**record["model"])
            plan = cls(ops, model, record["name"])
            digest = record["digest"]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InterventionError(f"{whose} holds no plan: {error}", hint="save the plan again") from error
        if plan.digest != digest:
            raise InterventionError(
                f"{whose} has digest {plan.digest[:12]}, its record says {shown(digest)[:14]}",
                hint="save the plan again; its files were changed or are of two plans",
            )
        return plan


def check_text(what: str, value: Any) -> None:
    """Check that a value is a text that UTF-8 can hold, so without lone surrogates.

    Raises:
        InterventionError: If it is not; the message names it.
    """
    written = isinstance(value, str) and value.encode("utf-8", "ignore").decode() == value
    if not written:
        raise InterventionError(f"{what} {shown(value)}", hint="give a text that UTF-8 can hold")


_NAMES = {"where": "tokens"}  # field names in plan.json, which digests depend on
_KINDS: dict[str, Callable[..., Op]] = {"steer": Steer, "ablate": Ablate, "cap": Cap}


def _operation(item: dict[str, Any], direction: np.ndarray) -> Op:
    """Return the operation that `describe` described."""
    values = {_NAMES.get(key, key): value for key, value in item.items() if key != "op"}
    return _KINDS[item["op"]](direction=direction, **values)


def describe(op: Op) -> dict[str, Any]:
    """Return an operation without its direction, as JSON values."""
    fields = {
        "steer": ("strength", "norm"),
        "ablate": ("to",),
        "cap": ("floor", "ceiling"),
    }[type(op).__name__.lower()]
    values = {name: getattr(op, name) for name in fields}
    return {"op": type(op).__name__.lower(), "layer": op.layer, **values, "where": op.tokens}


def _sentences(ops: tuple[Op, ...]) -> Iterator[str]:
    for op in ops:
        where = {
            "all": "at every token",
            "prompt": "at the prompt's tokens",
            "response": "at the response's tokens",
            "thinking": "at the tokens of the response's reasoning",
            "answer": "at the tokens of the response's answer",
            "tool_calls": "at the tokens of the response's tool calls",
        }.get(op.tokens, f"from message {turn_of(op.tokens)} on")
        if isinstance(op, Steer):
            unit = f" ({op.strength:+g} of the norm {op.norm:.4g})" if op.norm is not None else ""
            yield f"layer {op.layer}: add {op.amount:+.4g}{unit} along the direction, {where}."
        elif isinstance(op, Ablate):
            yield f"layer {op.layer}: set the projection on the direction to {op.to:g}, {where}."
        else:
            bounds = [
                f"{name} {value:.4g}"
                for name, value in (("at or above", op.floor), ("at or below", op.ceiling))
                if value is not None
            ]
            yield f"layer {op.layer}: hold the projection on the direction {' and '.join(bounds)}, {where}."


def _spans(layers: list[int]) -> str:
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return ("layers " if len(layers) > 1 else "layer ") + ", ".join(map(str, layers))
