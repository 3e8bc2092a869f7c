"""Opening the model of a map, as every command after ``map`` does."""

from __future__ import annotations

from pathlib import Path

import typer

from personascope.cli._console import open_map
from personascope.engines import LocalEngine, load_engine
from personascope.errors import UsageError
from personascope.mapping import MAP
from personascope.space import PersonaMap

WORKERS = typer.Option(1, help="Engines that share the requests; more than one need Ray.")
ADDRESS = typer.Option(None, help="Ray cluster of the workers: auto, ray://HOST:10001; else this machine.")
MODEL = typer.Option(None, help="Model, if it lies elsewhere than when it was mapped.")
DTYPE = typer.Option("auto", help="auto, bfloat16, float32 or float16.")
SEED = typer.Option(0, help="Of everything that is drawn.")
RESTART = typer.Option(False, help="Forget the run that is in the folder.")


def run_folder(folder: Path) -> Path:
    """Return the run folder of a run folder or of a map folder inside one."""
    return folder.parent if folder.name == MAP and not (folder / MAP).is_dir() else folder


def open_engine(
    folder: Path,
    *,
    model: str | None = None,
    kind: str = "transformers",
    dtype: str = "auto",
    max_batch: int = 128,
    layer: int | None = None,
    workers: int = 1,
    address: str | None = None,
) -> tuple[PersonaMap, LocalEngine]:
    """Open a map and the model that it was made with; a base model gets the transcript that it had.

    ``kind`` is one of `personascope.engines.ENGINES`; for ``workers`` and ``address`` see
    `load_engine`. A ``layer`` that the map does not have is refused before the model is loaded.

    Raises:
        UsageError: If the map has no such layer.
        StoreError: If there is no map, or the model is another one than the map's.
        ModelError: If the model cannot be loaded.
    """
    found = open_map(folder)
    if layer is not None:
        found.unit_axis(layer)
    name = model or found.model.id
    engine = load_engine(
        name, engine=kind, dtype=dtype, max_batch=max_batch, workers=workers, address=address
    )
    if engine.info.chat_digest != found.model.chat_digest:
        other = engine.with_transcript()
        if other.info.chat_digest == found.model.chat_digest:
            engine = other
    info = engine.info
    found.check_model(
        model_id=found.model.id,
        revision=info.model_revision,
        n_layers=info.n_layers,
        d_model=info.d_model,
        chat_digest=info.chat_digest,
    )
    return found, engine


def numbers(text: str, name: str) -> list[float]:
    """Read a list of numbers with commas.

    Raises:
        UsageError: If one is no number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(
            f"--{name} {text!r}: {error}", mend="give numbers with commas, such as -0.2,0,0.2"
        ) from error
