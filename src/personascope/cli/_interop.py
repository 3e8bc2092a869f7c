"""``personascope import`` and ``personascope export``: the files of others in and out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer
from rich.progress import Progress

from personascope import interop
from personascope.cli._console import err, out
from personascope.errors import UsageError
from personascope.interop import (
    axis_plan,
    export_control_vector,
    is_experiment_id,
    parse_experiment_id,
)
from personascope.interventions import Plan, PlanModel
from personascope.mapping import MAP
from personascope.space import PersonaMap

if TYPE_CHECKING:
    from personascope.interop import CappingConfig, Released

_SHOWN = 12


class Target(StrEnum):
    """Forms that are written."""

    RELEASED = "released"
    CAPPING = "capping"
    GGUF = "gguf"


class Dtype(StrEnum):
    """Types of the vectors that are written."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def import_(
    source: str = typer.Argument(
        ...,
        help="Released folder, hub id such as lu-christina/assistant-axis-vectors:qwen-3-32b, axis.pt, "
        "capping_config.pt, or a folder imported before.",
    ),
    out_folder: Path = typer.Option(..., "--out", help="Folder to write."),
    experiment: str = typer.Option(
        None, help="Write this capping experiment (such as layers_46:54-p0.25) as a plan."
    ),
    revision: str = typer.Option(None, help="Branch, tag or commit of a hub dataset."),
) -> None:
    """Read the authors' files, safely, into a release or a plan of ours."""
    parts = interop.PARTS if experiment is None else ("axis", "capping")
    with Progress(console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task(f"reading {source}", total=None)
        found = interop.import_source(
            source,
            parts=parts,
            revision=revision,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if experiment is not None:
        _import_plan(found, experiment, out_folder)
        return
    if isinstance(found, interop.CappingConfig):
        known = list(found.experiments)
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        raise UsageError(
            f"{source} is a capping config of {len(known)} experiments",
            hint=f"choose one by --experiment: {', '.join(known[:_SHOWN])}{more}",
        )
    found.save(out_folder)
    for line in _summary(found):
        out.print(line, soft_wrap=True, markup=False)
    out.print(f"release: {out_folder}", soft_wrap=True, markup=False)


def _import_plan(found: Released | CappingConfig, experiment: str, folder: Path) -> None:
    plan = found.to_plan(experiment) if isinstance(found, interop.Released) else found.plan(experiment)
    plan.save(folder)
    out.print(plan.explain(), soft_wrap=True, markup=False)
    if is_experiment_id(experiment):
        out.print(f"{experiment}: {parse_experiment_id(experiment).explain()}", soft_wrap=True, markup=False)
    if isinstance(found, interop.CappingConfig):
        out.print("no axis to check the signs against: the vectors are taken as role - default")
    out.print(f"plan: {folder}", soft_wrap=True, markup=False)


def _summary(found: Released) -> list[str]:
    lines = [
        f"axis: {found.n_layers} layers of {found.d_model}, {str(found.axis.dtype).removeprefix('torch.')}",
        f"default vector: {'yes' if found.default_vector is not None else 'no'}; "
        f"roles: {len(found.role_vectors)}; traits: {len(found.trait_vectors)}",
    ]
    cosines = found.sign_cosines()
    lines.append(
        "sign: not checked, that needs the default vector and the roles"
        if cosines is None
        else "sign: cosine of the axis with default - mean(roles) "
        f"{cosines.min():+.3f} to {cosines.max():+.3f}"
    )
    if found.capping is not None:
        values = np.array(list(found.capping.axis_cosines(found.axis).values()))
        lines.append(
            f"capping: {len(found.capping.experiments)} experiments over {len(values)} vectors, cosine with "
            f"the axis {values.min():+.3f} to {values.max():+.3f} (role - default is -1)"
        )
    return lines


def export(
    source: Path = typer.Argument(..., help="Run, map, plan, or imported folder."),
    to: Target = typer.Option(..., "--to", help="Released folder, capping_config.pt, or llama.cpp GGUF."),
    out_path: Path = typer.Option(..., "--out", help="Folder (released) or file to write."),
    scale: float = typer.Option(
        None, help="gguf: factor on a plan; of a map, the strength as a fraction of the layer's norm."
    ),
    layer: list[int] = typer.Option(
        None, min=0, help="gguf of a map: layer, repeatable; the middle one if not given."
    ),
    dtype: Dtype = typer.Option(None, help="released, capping: type of the vectors; float32 if not given."),
    experiment: str = typer.Option(None, help="capping: the experiment's id; the plan's name if not given."),
    model_hint: str = typer.Option(None, help="gguf: the model's name in the file."),
) -> None:
    """Write a map or a plan in a form that other programs read."""
    options = {
        "--scale": (scale, Target.GGUF),
        "--layer": (layer or None, Target.GGUF),
        "--model-hint": (model_hint, Target.GGUF),
        "--experiment": (experiment, Target.CAPPING),
    }
    for name, (value, form) in options.items():
        if value is not None and form is not to:
            raise UsageError(f"{name} {value} goes with --to {form}, not {to}", hint="leave it out")
    if dtype is not None and to is Target.GGUF:
        raise UsageError(f"--dtype {dtype} goes not with --to gguf", hint="llama.cpp reads float32 alone")
    found = _open(source)
    if to is Target.RELEASED:
        if isinstance(found, Plan):
            raise _wrong(source, "a plan", to, "a map or an imported release")
        interop.export_released(found, out_path, dtype=None if dtype is None else dtype.value)
    elif to is Target.CAPPING:
        if not isinstance(found, Plan):
            raise _wrong(source, _kind(found), to, "a plan of caps")
        name = experiment or found.name
        if not name:
            raise UsageError("the plan has no name", hint="give the experiment's id by --experiment")
        interop.export_capping_config(
            {name: found}, out_path, dtype="float32" if dtype is None else dtype.value
        )
    else:
        _export_gguf(source, found, out_path, scale, layer, model_hint or "")
    out.print(f"{to}: {out_path}", soft_wrap=True, markup=False)


def _export_gguf(
    source: Path, found: Any, path: Path, scale: float | None, layers: list[int] | None, hint: str
) -> None:
    if isinstance(found, interop.Released):
        raise _wrong(
            source, _kind(found), Target.GGUF, "a map, or a plan of Released.axis_plan: it has no norms"
        )
    if isinstance(found, Plan):
        if layers:
            raise UsageError(
                f"--layer {layers[0]} is not for a plan", hint="the plan says at which layers it acts"
            )
        export_control_vector(found, path, scale=1.0 if scale is None else scale, model_hint=hint)
        return
    info = found.model
    plan = axis_plan(
        found.axis,
        layers or [found.middle_layer],
        1.0,
        norm={number: float(value) for number, value in enumerate(found.response_norms)},
        model=PlanModel(info.id, info.revision, info.n_layers, info.d_model),
    )
    export_control_vector(plan, path, scale=1.0 if scale is None else scale, model_hint=hint)
    if scale is None:
        out.print(
            "at factor 1 it adds the whole norm of the layer: give llama.cpp the strength, as in\n"
            f"  llama-cli --control-vector-scaled {path}:0.1",
            soft_wrap=True,
            markup=False,
        )


def _open(source: Path) -> PersonaMap | Plan | Released:
    if (source / "plan.json").is_file():
        return Plan.load(source)
    if (source / "released.json").is_file():
        return interop.Released.load(source)
    if (source / MAP).is_dir() or (source / "map.json").is_file():
        return PersonaMap.open(source)
    raise UsageError(
        f"{source} holds no map, plan or imported release", hint="name the folder that such a command wrote"
    )


def _kind(persona_map: PersonaMap | Released) -> str:
    return "a map" if isinstance(persona_map, PersonaMap) else "an imported release"


def _wrong(source: Path, kind: str, to: Target, wanted: str) -> UsageError:
    return UsageError(f"{source} is {kind} and cannot be written as {to}", hint=f"name {wanted}")
