"""Files of others, in and out: what a folder holds, and writing it in another form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from personascope import interop
from personascope.directions import plan_model
from personascope.errors import UsageError
from personascope.interop import (
    CappingConfig,
    Released,
    axis_plan,
    is_experiment_id,
    parse_experiment_id,
)
from personascope.interventions import Plan
from personascope.space import MAP, PersonaMap

Form = Literal["released", "capping", "gguf"]
"""Forms that are written: a released folder, capping_config.pt, a llama.cpp control vector."""

VectorDtype = Literal["float32", "bfloat16"]

_NAMED = 12


@dataclass(frozen=True, slots=True, eq=False)
class ImportedPlan:
    """A plan made of a capping experiment of the authors.

    Attributes:
        plan: The plan.
        experiment: What the experiment's id says, in words; "" for an id of another form.
        signs_checked: Whether an axis lay beside the vectors, against which their signs were checked.
    """

    plan: Plan
    experiment: str
    signs_checked: bool


def import_release(
    source: Path | str,
    out: Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Released:
    """Read the authors' files, safely, and write them as a release that other functions take.

    Args:
        source: Released folder, hub id, axis file, or a folder imported before.
        out: Folder to write.
        revision: Branch, tag or commit of a hub dataset.
        progress: Called with the bytes that are read, and all of them.

    Raises:
        UsageError: If it is a capping config, of which one experiment is to be chosen.
        InteropError: As `personascope.interop.import_source`.
        StoreError: If it cannot be written.
    """
    found = interop.import_source(source, revision=revision, progress=progress)
    if isinstance(found, CappingConfig):
        known = list(found.experiments)
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        raise UsageError(
            f"{source} is a capping config of {len(known)} experiments",
            hint=f"choose one by --experiment: {', '.join(known[:_NAMED])}{more}",
        )
    found.save(out)
    return found


def import_plan(
    source: Path | str,
    experiment: str,
    out: Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedPlan:
    """Read a capping experiment of the authors, and write it as a plan; arguments as `import_release`.

    Raises:
        InteropError: As `personascope.interop.import_source`, or if there is no such experiment.
        StoreError: If it cannot be written.
    """
    parts = ("axis", "capping")
    found = interop.import_source(source, parts=parts, revision=revision, progress=progress)
    released = isinstance(found, Released)
    plan = found.to_plan(experiment) if released else found.plan(experiment)
    plan.save(out)
    words = parse_experiment_id(experiment).explain() if is_experiment_id(experiment) else ""
    return ImportedPlan(plan, words, released)


def open_any(source: Path | str) -> PersonaMap | Plan | Released:
    """Open what lies in a folder: a run or its map, a plan, or an imported release.

    Raises:
        UsageError: If it is none of these.
    """
    folder = Path(source)
    if (folder / "plan.json").is_file():
        return Plan.load(folder)
    if interop.is_release(folder):
        return Released.load(folder)
    if (folder / MAP).is_dir() or (folder / "map.json").is_file():
        return PersonaMap.open(folder)
    raise UsageError(
        f"{source} holds no map, plan or imported release", hint="name the folder that such a command wrote"
    )


def export(
    source: Path | str,
    to: Form,
    out: Path,
    *,
    dtype: VectorDtype | None = None,
    experiment: str | None = None,
    scale: float | None = None,
    layers: Sequence[int] = (),
    model_hint: str = "",
) -> None:
    """Write a map or a plan in a form that other programs read.

    Args:
        source: Folder of a run, map, plan or imported release.
        to: The form.
        out: Folder (released) or file to write.
        dtype: released, capping: type of the vectors; float32 if not given.
        experiment: capping: the experiment's id; the plan's name if not given.
        scale: gguf: factor on a plan; of a map, the strength as a fraction of the layer's norm. 1 by default.
        layers: gguf of a map: its layers; the middle one if not given.
        model_hint: gguf: the model's name in the file.

    Raises:
        UsageError: If what lies in the folder cannot be written in the form.
        InteropError: As the writers of `personascope.interop`.
        StoreError: If it cannot be written.
    """
    found = open_any(source)
    if to == "released":
        if isinstance(found, Plan):
            raise _wrong(source, found, to, "a map or an imported release")
        interop.export_released(found, out, dtype=dtype)
    elif to == "capping":
        if not isinstance(found, Plan):
            raise _wrong(source, found, to, "a plan of caps")
        name = experiment or found.name
        if not name:
            raise UsageError("the plan has no name", hint="give the experiment's id by --experiment")
        interop.export_capping_config({name: found}, out, dtype=dtype or "float32")
    else:
        plan = _control_vector(source, found, layers)
        interop.export_control_vector(plan, out, scale=1.0 if scale is None else scale, model_hint=model_hint)


def _control_vector(source: Path | str, found: PersonaMap | Plan | Released, layers: Sequence[int]) -> Plan:
    if isinstance(found, Released):
        raise _wrong(source, found, "gguf", "a map, or a plan of Released.axis_plan: it has no norms")
    if isinstance(found, Plan):
        if layers:
            raise UsageError(
                f"--layer {layers[0]} is not for a plan", hint="the plan says at which layers it acts"
            )
        return found
    return axis_plan(
        found.axis,
        list(layers) or [found.middle_layer],
        1.0,
        norm={number: float(value) for number, value in enumerate(found.response_norms)},
        model=plan_model(found),
    )


def _wrong(source: Path | str, found: PersonaMap | Plan | Released, to: Form, wanted: str) -> UsageError:
    kinds = {PersonaMap: "a map", Plan: "a plan", Released: "an imported release"}
    return UsageError(
        f"{source} is {kinds[type(found)]} and cannot be written as {to}", hint=f"name {wanted}"
    )
