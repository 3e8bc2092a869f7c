"""``personascope serve``: vLLM's API server, with plans and projections per request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from personascope import engines, models
from personascope.cli._console import err, say
from personascope.cli._options import ANYWAY, DTYPE, TRUST, DtypeName
from personascope.cli._verdict import open_found_map
from personascope.engines import PlanStore, Probe, ProbeSet
from personascope.errors import EngineError
from personascope.interventions import Plan
from personascope.models import cache_root
from personascope.text import escape_controls

if TYPE_CHECKING:
    from personascope.models import ModelFiles


def serve(
    model: str = typer.Argument(..., help="Hub id, local folder, GGUF file, or an embedded name."),
    extra: list[str] = typer.Argument(None, help="After --: more flags of vLLM."),
    plan: list[Path] = typer.Option(None, help="Folder of a plan that requests may name, repeatable."),
    map_folder: Path = typer.Option(None, "--map", help="Run of a map: its axis is registered as a probe."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; 0.0.0.0 is every one."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen at."),
    api_key: str = typer.Option(None, help="Key that clients must send; VLLM_API_KEY does the same."),
    plan_store: Path = typer.Option(
        None,
        "--plan-store",
        "--spool",
        help="Folder that keeps plans and probes by digest; one in the cache if not given.",
    ),
    dtype: DtypeName = DTYPE,
    allow_upload: bool = typer.Option(False, help="Take uploads of plans without an API key."),
    trust_remote_code: bool = TRUST,
    print_command: bool = typer.Option(False, help="Print the command and stop."),
    anyway: bool = ANYWAY,
) -> None:
    """Serve a model by vLLM; every request may name a plan and probes by digest (docs/serving.md)."""
    plans = [Plan.load(folder) for folder in plan or ()]
    say(f"reading {model}")
    files = models.open_files(model, trust_remote_code=trust_remote_code)
    kept = PlanStore((plan_store or cache_root() / "spool").resolve())
    command = engines.serve_command(
        files,
        store=str(kept.folder),
        dtype=engines.native_dtype() if dtype == "auto" else dtype,
        host=host,
        port=port,
        api_key=api_key,
        allow_upload=allow_upload,
        extra=[*(("--trust-remote-code",) if trust_remote_code else ()), *(extra or ())],
    )
    for value in plans:
        value.check_model(
            model_id=files.model_id, revision=files.revision, n_layers=files.n_layers, d_model=files.d_model
        )
    probes = None if map_folder is None else map_axis(map_folder, files, anyway=anyway)
    for value in plans:
        err.print(f"plan {kept.put(value)} {value.name}", soft_wrap=True, markup=False)
    if probes is not None:
        names = ", ".join(probes.names)
        err.print(
            f"probes {kept.put(probes)} {names}, layer {probes.layers[0]}", soft_wrap=True, markup=False
        )
    if print_command:
        typer.echo(escape_controls(str(command)))
        return
    command.execute()


def map_axis(folder: Path, files: ModelFiles, *, anyway: bool = False) -> ProbeSet:
    """Return the unit axis of a map at its middle layer as a probe.

    Raises:
        EngineError: If the map is of another model.
        SpaceError: If the map found no axis, and the user did not say to go on.
    """
    persona_map = open_found_map(folder, anyway=anyway)
    mine = persona_map.model
    if (mine.revision, mine.n_layers, mine.d_model) != (files.revision, files.n_layers, files.d_model):
        raise EngineError(
            f"the map in {folder} is of {mine.id} ({mine.revision[:12]}), "
            f"this is {files.model_id} ({files.revision[:12]})",
            hint="serve the model that the map was made with, or map this one",
        )
    return ProbeSet.of(
        (Probe("axis", persona_map.middle_layer, persona_map.unit_axis(persona_map.middle_layer)),)
    )
