"""``personascope import`` and ``personascope export``: the files of others in and out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import api
from personascope.cli._console import err, out
from personascope.cli._options import finite
from personascope.errors import UsageError

if TYPE_CHECKING:
    from personascope.api import ImportedPlan
    from personascope.interop import Released


class Target(StrEnum):
    """Export formats."""

    RELEASED = "released"
    CAPPING = "capping"
    GGUF = "gguf"
    GLP = "glp"


class Dtype(StrEnum):
    """Dtypes of exported vectors."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def import_(
    source: str = typer.Argument(
        ...,
        help="Released folder, hub id such as lu-christina/assistant-axis-vectors:qwen-3-32b, axis.pt, "
        "capping_config.pt, or a folder imported before.",
    ),
    out_folder: Path = typer.Option(..., "--out", help="Folder to write."),
    experiment: str | None = typer.Option(
        None, help="Write this capping experiment (such as layers_46:54-p0.25) as a plan."
    ),
    revision: str | None = typer.Option(None, help="Branch, tag or commit of a hub dataset."),
) -> None:
    """Read the authors' files, safely, into a release or a plan of ours."""
    with _reading(source) as progress:
        if experiment is None:
            release = api.import_release(source, out_folder, revision=revision, progress=progress)
            lines = [*_summary(release), f"release: {out_folder}"]
        else:
            plan = api.import_plan(source, experiment, out_folder, revision=revision, progress=progress)
            lines = [*_plan_lines(plan, experiment), f"plan: {out_folder}"]
    for line in lines:
        out.print(line, soft_wrap=True, markup=False)


def _plan_lines(found: ImportedPlan, experiment: str) -> list[str]:
    lines = [found.plan.explain()]
    if found.experiment:
        lines.append(f"{experiment}: {found.experiment}")
    if not found.signs_checked:
        lines.append("no axis to check the signs against: the vectors are taken as role - default")
    return lines


@contextmanager
def _reading(source: str) -> Generator[Callable[[int, int], None]]:
    """Show a bar while files are read."""
    from rich.progress import Progress

    with Progress(console=err, disable=not err.is_terminal, transient=True) as progress:
        task = progress.add_task(f"reading {source}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


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
        values = found.capping.axis_cosines(found.axis).values()
        lines.append(
            f"capping: {len(found.capping.experiments)} experiments over {len(values)} vectors, cosine with "
            f"the axis {min(values):+.3f} to {max(values):+.3f} (role - default is -1)"
        )
    return lines


def export(
    source: Path = typer.Argument(..., help="Run, map, plan, or imported folder, or hub:owner/name."),
    to: Target = typer.Option(
        ..., "--to", help="Released folder, capping_config.pt, llama.cpp GGUF, or GLP."
    ),
    out_path: Path = typer.Option(..., "--out", help="Folder (released) or file to write."),
    scale: float | None = typer.Option(
        None,
        callback=finite,
        help="gguf: factor on a plan; of a map, the strength as a fraction of the layer's norm.",
    ),
    layer: list[int] | None = typer.Option(
        None, min=0, help="gguf, glp of a map: layer, repeatable; the middle one if not given."
    ),
    dtype: Dtype | None = typer.Option(
        None, help="released, capping: type of the vectors; float32 if not given."
    ),
    experiment: str | None = typer.Option(
        None, help="capping: the experiment's id; the plan's name if not given."
    ),
    model_hint: str | None = typer.Option(None, help="gguf: the model's name in the file."),
) -> None:
    """Write a map or a plan in a form that other programs read."""
    options = {
        "--scale": (scale, (Target.GGUF,)),
        "--layer": (layer or None, (Target.GGUF, Target.GLP)),
        "--model-hint": (model_hint, (Target.GGUF,)),
        "--experiment": (experiment, (Target.CAPPING,)),
    }
    for name, (value, forms) in options.items():
        if value is not None and to not in forms:
            raise UsageError(
                f"{name} {value} goes with --to {' or '.join(forms)}, not {to}", hint="leave it out"
            )
    if dtype is not None and to in (Target.GGUF, Target.GLP):
        raise UsageError(f"--dtype {dtype} goes not with --to {to}", hint="such a file holds float32 alone")
    api.export(
        source,
        to.value,
        out_path,
        dtype=None if dtype is None else dtype.value,
        experiment=experiment,
        scale=scale,
        layers=layer or (),
        model_hint=model_hint or "",
    )
    if to is Target.GGUF and scale is None and isinstance(api.open_any(source), api.PersonaMap):
        out.print(
            "at factor 1 it adds the whole norm of the layer: give llama.cpp the strength, as in\n"
            f"  llama-cli --control-vector-scaled {out_path}:0.1",
            soft_wrap=True,
            markup=False,
        )
    if to is Target.GLP:
        out.print(
            "the directions are projected out by a reader of GLP; llama.cpp would add them, and refuses the "
            "file",
            soft_wrap=True,
            markup=False,
        )
    out.print(f"{to}: {out_path}", soft_wrap=True, markup=False)
