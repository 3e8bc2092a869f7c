"""``personascope doctor``: what is installed and what each engine can do, or whether a model runs as it should."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from personascope.cli._console import out, say
from personascope.cli._options import DTYPE, TRUST, DtypeName
from personascope.errors import PersonascopeError

PACKAGES = ("personascope", "torch", "transformers", "safetensors", "pyarrow", "gguf", "plotly")


def doctor(
    model: str = typer.Option(
        None, help="Check instead that this model runs here as its own library runs it; under a minute."
    ),
    dtype: DtypeName = DTYPE,
    device: str = typer.Option(None, help="cpu, cuda, cuda:1, ...; the first GPU if there is one."),
    transcript: bool = typer.Option(False, help="Check a base model with plain transcripts."),
    trust_remote_code: bool = TRUST,
) -> None:
    """Check the installation, or with --model whether a model runs as it should; exit code 1 if not."""
    if model is not None:
        _check_model(model, dtype, device, transcript, trust_remote_code)
        return
    say("looking at the installation and the converted models")
    import torch

    from personascope.engines import CAPABILITIES, ENGINE_TITLES, native_dtype
    from personascope.models import EMBEDDED, cache_root, check_conversion, resolve

    table = Table("what", "found", "verdict")
    for name in PACKAGES:
        try:
            table.add_row(name, version(name), "ok")
        except PackageNotFoundError:
            table.add_row(
                name, "not installed", "pip install 'personascope[gguf]'" if name == "gguf" else "missing"
            )
    table.add_row("python", platform.python_version(), "ok")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    table.add_row("device", device, f"dtype {native_dtype()}")
    root = cache_root()
    place = root
    while not place.exists():
        place = place.parent
    table.add_row("cache", str(root), f"{shutil.disk_usage(place).free / 2**30:.1f} GiB free")
    broken = False
    for name in EMBEDDED:
        try:
            resolve(name)
            table.add_row(name, "installed", "ok")
        except PersonascopeError as error:
            table.add_row(name, "not installed", error.hint)
    for folder in sorted(Path(root).glob("*/personascope.json")):
        try:
            check_conversion(folder.parent, full=True)
            table.add_row("converted model", folder.parent.name[:16], "whole")
        except PersonascopeError as error:
            broken = True
            table.add_row(
                "converted model", folder.parent.name[:16], f"[red]{error.message}; {error.hint}[/]"
            )
    out.print(table)
    engines = Table("engines (docs/engines.md)", *ENGINE_TITLES)
    for row in CAPABILITIES:
        engines.add_row(row.title, *(row.support[name].level for name in ENGINE_TITLES))
    out.print(engines)
    if broken:
        raise typer.Exit(1)


def _check_model(
    name: str, dtype: DtypeName, device: str | None, transcript: bool, trust_remote_code: bool
) -> None:
    from personascope.engines import TransformersEngine, load_engine, verify_model

    say(f"loading {name}")
    engine = load_engine(
        name, dtype=dtype, device=device, transcript=transcript, trust_remote_code=trust_remote_code
    )
    assert isinstance(engine, TransformersEngine)
    say("comparing every operation with the model's own library")
    table = Table("operation", "outcome", "seen")
    checks = verify_model(engine)
    for check in checks:
        colour = "green" if check.outcome == "SUPPORTED" else "red"
        table.add_row(check.operation, f"[{colour}]{check.outcome}[/]", escape(check.detail))
    out.print(table)
    if any(check.outcome != "SUPPORTED" for check in checks):
        raise typer.Exit(1)
