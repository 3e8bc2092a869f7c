"""Groups of options that several commands share, each passed to a command as one object.

A command has a parameter whose default is an instance of a group, and is decorated with `grouped`. Typer then
sees each field of the group as an option of its own, and the command receives a group with the values. A
default instance may replace single options of the group.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from personascope.cli._options import (
    ADDRESS,
    BATCH,
    CONTROLS,
    DTYPE,
    ENGINE,
    FALLBACK,
    FALLBACK_HEADER,
    FALLBACK_PRICE,
    JUDGE,
    JUDGE_HEADER,
    JUDGE_PRICE,
    LAYER,
    MAX_COST,
    MODEL,
    N_RANDOM,
    PLANS,
    STRENGTHS,
    WORKERS,
    DtypeName,
    EngineName,
    names,
    numbers,
)
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.api import Comparison, JudgeChoice, MappedModel


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """Options of the judge, and of a second judge for what the first cannot label."""

    judge: str | None = JUDGE
    fallback_judge: str | None = FALLBACK
    judge_header: list[str] | None = JUDGE_HEADER
    fallback_header: list[str] | None = FALLBACK_HEADER
    judge_price: str | None = JUDGE_PRICE
    fallback_price: str | None = FALLBACK_PRICE
    max_cost: float | None = MAX_COST

    def choose(self, default: Callable[[], str] | None = None) -> JudgeChoice:
        """Check the judges before anything is opened.

        Args:
            default: Function that returns the judge if none was named; "none" without it.

        Raises:
            UsageError: If a specification names no judge, or an option is malformed or not of its judge.
        """
        from personascope import api

        spec = self.judge
        if spec is None:
            spec = "none" if default is None else default()
        return api.JudgeChoice.read(
            spec,
            self.fallback_judge,
            headers=api.read_headers(self.judge_header or ()),
            fallback_headers=api.read_headers(self.fallback_header or ()),
            price=_price(self.judge_price, "judge-price"),
            fallback_price=_price(self.fallback_price, "fallback-price"),
            max_cost=self.max_cost,
        )


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options for loading the model of a map."""

    model: str | None = MODEL
    engine: EngineName = ENGINE
    dtype: DtypeName = DTYPE
    max_batch: int = BATCH
    workers: int = WORKERS
    address: str | None = ADDRESS

    def open(self, run: Path) -> MappedModel:
        """Open a run folder; the model is loaded on first use (`MappedModel.open`)."""
        from personascope.cli._run import open_run

        return open_run(run, **asdict(self))


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    """Options for the conditions that an evaluation compares."""

    strengths: str = STRENGTHS
    plans: list[Path] | None = PLANS
    n_random: int = N_RANDOM
    controls: str = CONTROLS
    layer: int | None = LAYER

    def read(self) -> Comparison:
        """Parse strengths and read plans, before anything else is opened.

        Raises:
            UsageError: If a strength is no number or is given twice, none but 0 is given, or a kind of
                control is unknown.
            PersonascopeError: If a plan cannot be read.
        """
        from personascope import api

        steps = tuple(numbers(self.strengths, "strengths"))
        plans, kinds = api.load_plans(self.plans or ()), names(self.controls)
        return api.Comparison(steps, plans, self.n_random, self.layer, kinds)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Expand a command's option groups into single options for Typer."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Any], list[str]]] = {}
    hints = get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        group = parameter.default
        if not is_dataclass(group) or isinstance(group, type):
            parameters.append(parameter.replace(annotation=hints[name]))
            continue
        kinds = get_type_hints(type(group))
        groups[name] = type(group), [field.name for field in fields(group)]
        parameters += [
            parameter.replace(name=option, default=getattr(group, option), annotation=kinds[option])
            for option in groups[name][1]
        ]

    @functools.wraps(command)
    def shown(**values: Any) -> None:
        made = {
            name: group(**{option: values.pop(option) for option in options})
            for name, (group, options) in groups.items()
        }
        command(**values, **made)

    shown.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    shown.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return shown


def _price(given: str | None, option: str) -> tuple[float, float] | None:
    if given is None:
        return None
    values = numbers(given, option)
    if len(values) != 2:
        raise UsageError(
            f"--{option} {given!r} is not two numbers",
            hint="give the prices of a million tokens sent and received, such as 0.4,1.6",
        )
    return values[0], values[1]
