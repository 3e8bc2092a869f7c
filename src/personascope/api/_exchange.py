"""Import and export of other programs' file formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from personascope import interop
from personascope.api._inputs import as_local
from personascope.directions import plan_model
from personascope.errors import UsageError
from personascope.interop import (
    CappingConfig,
    Released,
    axis_plan,
    is_experiment_id,
    parse_experiment_id,
)
from personascope.interventions import Ablate, Plan
from personascope.space import MAP, PersonaMap

Form = Literal["released", "capping", "gguf", "glp"]
"""Export formats: a released folder, capping_config.pt, a llama.cpp control vector (which is added), a GLP
file (whose directions are projected out)."""

VectorDtype = Literal["float32", "bfloat16"]

_NAMED = 12


@dataclass(frozen=True, slots=True, eq=False)
class ImportedPlan:
    """A plan imported from one of the authors' capping experiments.

    Attributes:
        plan: Imported plan.
        experiment: Meaning of the experiment's id, in words; "" for an id of another form.
        signs_checked: Whether the vectors' signs were checked against an axis in the source.
    """

    plan: Plan
    experiment: str
    signs_checked: bool


def import_release(
    source: Path | str,
    out: Path | str,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Released:
    """Read the authors' files safely, and write them as a release that other functions accept.

    Args:
        source: Released folder, hub id, axis file, or a folder imported before.
        out: Folder to write.
        revision: Branch, tag or commit of a hub dataset.
        progress: Callback to call with the bytes read so far and the total.

    Raises:
        UsageError: If the source is a capping config, which needs a chosen experiment (`import_plan`).
        InteropError: As in `personascope.interop.import_source`.
        StoreError: If the folder cannot be written.
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
    out: Path | str,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportedPlan:
    """Read one of the authors' capping experiments, and write it as a plan; see `import_release`.

    Raises:
        InteropError: As in `personascope.interop.import_source`, or if there is no such experiment.
        StoreError: If the folder cannot be written.
    """
    parts = ("axis", "capping")
    found = interop.import_source(source, parts=parts, revision=revision, progress=progress)
    released = isinstance(found, Released)
    plan = found.to_plan(experiment) if released else found.plan(experiment)
    plan.save(out)
    words = parse_experiment_id(experiment).explain() if is_experiment_id(experiment) else ""
    return ImportedPlan(plan, words, released)


def open_any(source: Path | str) -> PersonaMap | Plan | Released:
    """Open the contents of a folder: a map (or a run's map), a plan, or an imported release.

    Raises:
        UsageError: If the folder holds none of these.
    """
    folder = as_local(source, ("run", "release", "plan"))
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
    out: Path | str,
    *,
    dtype: VectorDtype | None = None,
    experiment: str | None = None,
    scale: float | None = None,
    layers: Sequence[int] = (),
    model_hint: str = "",
) -> None:
    """Export a map or a plan to a format that other programs read.

    Args:
        source: Folder of a run, map, plan or imported release.
        to: Export format.
        out: Folder (released) or file to write.
        dtype: For released and capping: dtype of the vectors; float32 if not given (a release keeps its own).
        experiment: For capping: id of the experiment; the plan's name if not given.
        scale: For gguf: factor on a plan's vectors, or for a map the strength as a fraction of its mean
            response norm. 1 by default.
        layers: For gguf and glp of a map: layers to export; the middle one if not given.
        model_hint: For gguf: name of the model in the file.

    Raises:
        UsageError: If the folder's contents cannot be exported to the format.
        InteropError: As in the writers of `personascope.interop`.
        StoreError: If the output cannot be written.
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
    elif to == "glp":
        made = not isinstance(found, Plan)
        interop.export_projection(
            _projection(found, layers), out, method="difference_of_means" if made else ""
        )
    else:
        plan = _control_vector(source, found, layers)
        interop.export_control_vector(plan, out, scale=1.0 if scale is None else scale, model_hint=model_hint)


def _control_vector(source: Path | str, found: PersonaMap | Plan | Released, layers: Sequence[int]) -> Plan:
    if isinstance(found, Released):
        raise _wrong(source, found, "gguf", "a map, or a plan of Released.axis_plan: it has no norms")
    if isinstance(found, Plan):
        return _without_layers(found, layers)
    return axis_plan(
        found.axis,
        list(layers) or [found.middle_layer],
        1.0,
        norm={number: float(value) for number, value in enumerate(found.response_norms)},
        model=plan_model(found),
    )


def _projection(found: PersonaMap | Plan | Released, layers: Sequence[int]) -> Plan:
    """Return the plan whose directions are projected out: of a map or a release, the axis at some layers."""
    if isinstance(found, Plan):
        return _without_layers(found, layers)
    if isinstance(found, Released):
        axis, model, middle = found.axis.float().numpy(), None, found.n_layers // 2
    else:
        axis, model, middle = found.axis, plan_model(found), found.middle_layer
    chosen = sorted(set(layers)) or [middle]
    wrong = [layer for layer in chosen if layer >= len(axis)]
    if wrong:
        raise UsageError(f"layer {wrong[0]} is not in the map", hint=f"choose 1 to {len(axis) - 1}")
    return Plan(tuple(Ablate(layer, axis[layer]) for layer in chosen), model, "axis projected out")


def _without_layers(plan: Plan, layers: Sequence[int]) -> Plan:
    if layers:
        raise UsageError(
            f"--layer {layers[0]} is not for a plan", hint="the plan says at which layers it acts"
        )
    return plan


def _wrong(source: Path | str, found: PersonaMap | Plan | Released, to: Form, wanted: str) -> UsageError:
    kinds = {PersonaMap: "a map", Plan: "a plan", Released: "an imported release"}
    return UsageError(
        f"{source} is {kinds[type(found)]} and cannot be written as {to}", hint=f"name {wanted}"
    )
