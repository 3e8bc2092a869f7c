"""Evaluate plans or strengths on a model and its map, always beside no plan and controls."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol, cast, overload

from personascope import api
from personascope.api._estimate import Estimable, Prepared, estimable
from personascope.api.notebook._model import Model
from personascope.api.notebook._open import MapLike, as_map
from personascope.errors import UsageError
from personascope.interventions import Plan

What = Literal["susceptibility", "jailbreak", "pretrained", "coherence", "harm", "capability"]
Plans = Sequence[Plan | Path | str] | Mapping[str, Plan | Path | str] | Plan

_COMPARED = ("susceptibility", "jailbreak", "pretrained", "coherence")
_NAMES = (*_COMPARED, "harm", "capability")
_OWN = ("mapped", "compare", "plan", "plans", "n_random", "controls")
"""Arguments of the functions of `api` that `evaluate` fills in itself."""


class Evaluate(Protocol):
    """The function `evaluate`: what it returns follows from the evaluation's name."""

    @overload
    def __call__(
        self,
        model: Model | None,
        pmap: MapLike,
        what: Literal["susceptibility", "jailbreak", "pretrained", "coherence"],
        *,
        plans: Plans | None = ...,
        strengths: Sequence[float] | None = ...,
        n_random: int | None = ...,
        controls: Sequence[str] | None = ...,
        layer: int | None = ...,
        **options: Any,
    ) -> api.Evaluation: ...

    @overload
    def __call__(
        self,
        model: Model | None,
        pmap: MapLike,
        what: Literal["harm"],
        *,
        plans: Plans | None = ...,
        strengths: Sequence[float] | None = ...,
        n_random: int | None = ...,
        controls: Sequence[str] | None = ...,
        layer: int | None = ...,
        **options: Any,
    ) -> api.HarmEvaluation: ...

    @overload
    def __call__(
        self,
        model: Model | None,
        pmap: MapLike,
        what: Literal["capability"],
        *,
        plans: Plans | None = ...,
        strengths: Sequence[float] | None = ...,
        n_random: int | None = ...,
        controls: Sequence[str] | None = ...,
        layer: int | None = ...,
        **options: Any,
    ) -> api.CapabilityEvaluation: ...

    def estimate(self, model: Model | None, pmap: MapLike, what: What, **options: Any) -> api.WorkEstimate:
        """Estimate what the evaluation would take; the arguments are those of the evaluation itself."""
        ...


def cast_evaluate(function: Estimable[..., Any]) -> Evaluate:
    """Return the same function, with the types of each evaluation."""
    return cast("Evaluate", function)


@cast_evaluate
@estimable
def evaluate(
    model: Model | None,
    pmap: MapLike,
    what: What,
    *,
    plans: Plans | None = None,
    strengths: Sequence[float] | None = None,
    n_random: int | None = None,
    controls: Sequence[str] | None = None,
    layer: int | None = None,
    **options: Any,
) -> Prepared[api.Evaluation | api.HarmEvaluation | api.CapabilityEvaluation]:
    """Evaluate plans, or steering along the axis, beside no plan and the same on control directions.

    The same call goes on with an interrupted evaluation. ``evaluate.estimate`` says what it would take.

    Args:
        model: Loaded model; None loads the map's own.
        pmap: Map, or its run folder.
        what: "susceptibility" (who it says it is in a role), "jailbreak" (persona jailbreaks), "pretrained"
            (a base model's self-descriptions), "coherence" (is it still a text), "capability" (tasks of
            lm-evaluation-harness), "harm" (does a first reply in a role foretell harm in the second).
        plans: Plan, plans, or name -> plan, to compare; paths of saved plans too.
        strengths: Strengths along the axis instead, as fractions of the layer's norm; a default range if
            neither is given.
        n_random: Number of controls of each kind; for "harm" the number of directions of each kind.
        controls: Kinds of controls: "isotropic", "shuffled", "role-span"; all of them if not given.
        layer: Layer to steer at, or at which "harm" reads positions; the map's middle layer if not given.
        options: Options of the evaluation of that name in `personascope.api`, such as ``roles``, ``limit``,
            ``judge``, ``dataset``, ``out``, ``seed`` and ``restart``.

    Raises:
        UsageError: If there is no such evaluation or option, or an argument does not fit.
        PersonascopeError: As in the function of `personascope.api`.
    """
    if what not in _NAMES:
        raise UsageError(f"there is no evaluation {what!r}", hint=_near(str(what), _NAMES))
    function: Any = getattr(api, what)
    known = [name for name in inspect.signature(function).parameters if name not in (*_OWN, "layer")]
    for name in options:
        if name not in known:
            raise UsageError(f"{what} has no option {name!r}", hint=_near(name, known))
    named = _named(plans)
    if named and strengths is not None:
        raise UsageError("plans and strengths were both given", hint="give one of them")
    mapped = as_map(pmap).mapped(model)
    more: dict[str, Any] = {} if n_random is None else {"n_random": n_random}
    more |= {} if controls is None else {"controls": controls}
    if what in _COMPARED:
        if strengths is not None:
            more["strengths"] = tuple(strengths)
        return function.prepare(mapped, api.Comparison(plans=named, layer=layer, **more), **options)
    if strengths is not None:
        raise UsageError(f"{what} takes plans, and no strengths", hint="give plans=[pmap.steer(-0.2)]")
    if what == "capability":
        if layer is not None:
            raise UsageError("capability reads no layer", hint="leave layer= out; a plan names its own")
        return api.capability.prepare(mapped, named, **more, **options)
    if len(named) > 1:
        raise UsageError(f"harm takes one plan, {len(named)} are given", hint="call it once for each")
    return api.harm.prepare(mapped, plan=next(iter(named.values()), None), layer=layer, **more, **options)


def _named(plans: Plans | None) -> dict[str, Plan]:
    """Return name -> plan.

    Raises:
        UsageError: If two plans have one name, or a value is no plan.
    """
    if plans is None:
        return {}
    if isinstance(plans, Plan | Path | str):
        plans = [plans]
    if isinstance(plans, Mapping):
        return {name: _plan(plan) for name, plan in plans.items()}
    found: dict[str, Plan] = {}
    for index, given in enumerate(plans):
        plan = _plan(given)
        name = plan.name or (f"plan {index}" if isinstance(given, Plan) else Path(given).name)
        if name in found:
            raise UsageError(f"two plans are called {name!r}", hint='give names: plans={"a": ..., "b": ...}')
        found[name] = plan
    return found


def _plan(plan: Any) -> Plan:
    if plan is None:
        raise UsageError("a plan is None", hint="leave it out: no plan is always among the conditions")
    if not isinstance(plan, Plan | Path | str):
        raise UsageError(f"{type(plan).__name__} is no plan", hint="give a Plan, or a saved one's folder")
    return api.open_plan(plan)


def _near(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(known)}"
