"""Opening the model of a map, as every command after ``map`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import engines, judge
from personascope.cli._console import say
from personascope.space import MAP, PersonaMap

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.judge import Judge

PLAYED, REPLAYED = "cases", "cases_replayed"
"""Folders of the case studies and of their replay, below <run>/drift."""


def run_folder(folder: Path) -> Path:
    """Return the run folder of a run folder or of a map folder inside one."""
    return folder.parent if folder.name == MAP and not (folder / MAP).is_dir() else folder


def read_headers(given: Sequence[str] | None) -> dict[str, str]:
    """Read headers of the form NAME=VARIABLE into name -> environment variable.

    Raises:
        UsageError: If one is of another form, or its variable is not set (`Endpoint` says so).
    """
    return dict(judge.parse_header(text) for text in given or ())


def open_judge(spec: str, **options: Any) -> Judge | None:
    """Make the judge of a specification (`parse_judge`), and say so where that takes its time."""
    if spec.strip().startswith("local:"):
        say(f"loading the judge {spec}")
    return judge.parse_judge(spec, **options)


def open_engine(
    source: Path | PersonaMap,
    *,
    model: str | None = None,
    kind: str = "transformers",
    dtype: str = "auto",
    max_batch: int = 128,
    layer: int | None = None,
    workers: int = 1,
    address: str | None = None,
) -> tuple[PersonaMap, LocalEngine]:
    """Open a map, if it is not open yet, and its model; a base model gets the transcript that it had.

    ``kind`` is one of `personascope.engines.ENGINES`; for ``workers`` and ``address`` see
    `load_engine`. A ``layer`` that the map does not have is refused before the model is loaded.

    Raises:
        UsageError: If the map has no such layer.
        StoreError: If there is no map, or the model is another one than the map's.
        ModelError: If the model cannot be loaded.
    """
    persona_map = source if isinstance(source, PersonaMap) else PersonaMap.open(source)
    if layer is not None:
        persona_map.unit_axis(layer)
    name = model or persona_map.model.id
    say(f"loading {name}")
    engine = engines.load_engine(
        name, engine=kind, dtype=dtype, max_batch=max_batch, workers=workers, address=address
    )
    if engine.info.chat_digest != persona_map.model.chat_digest:
        other = engine.with_transcript()
        if other.info.chat_digest == persona_map.model.chat_digest:
            engine = other
    info = engine.info
    persona_map.check_model(
        model_id=persona_map.model.id,
        revision=info.model_revision,
        n_layers=info.n_layers,
        d_model=info.d_model,
        chat_digest=info.chat_digest,
    )
    return persona_map, engine
