"""Opening the model of a map, as every command after ``map`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope import engines, interop, judge
from personascope.cli._console import err, say
from personascope.cli._options import numbers
from personascope.errors import UsageError
from personascope.space import MAP, MapModel, PersonaMap

if TYPE_CHECKING:
    from personascope.engines import LocalEngine
    from personascope.judge import Judge

PLAYED, REPLAYED = "cases", "cases_replayed"
"""Folders of the case studies and of their replay, below <run>/drift."""


def run_folder(folder: Path) -> Path:
    """Return the run folder of a run folder or of a map folder inside one."""
    return folder.parent if folder.name == MAP and not (folder / MAP).is_dir() else folder


def open_map(folder: Path) -> PersonaMap:
    """Open a map, or an imported release in its place, and say what the release lacks.

    Raises:
        StoreError: If there is neither, or it is damaged.
    """
    persona_map = interop.open_map(folder)
    if persona_map.lacking:
        err.print(f"{folder} is an imported release: {persona_map.lacking}", markup=False, soft_wrap=True)
    return persona_map


def read_headers(given: Sequence[str] | None) -> dict[str, str]:
    """Read headers of the form NAME=VARIABLE into name -> environment variable.

    Raises:
        UsageError: If one is of another form, or its variable is not set (`Endpoint` says so).
    """
    return dict(judge.parse_header(text) for text in given or ())


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """The judge that a command was given, checked and not yet made.

    Attributes:
        spec: The judge.
        fallback: The second judge, or None.
        options: Options of the first.
        fallback_options: Options of the second.
    """

    spec: str
    fallback: str | None
    options: Mapping[str, Any]
    fallback_options: Mapping[str, Any]

    @classmethod
    def read(
        cls,
        spec: str,
        fallback: str | None = None,
        *,
        headers: Sequence[str] | None = None,
        fallback_headers: Sequence[str] | None = None,
        price: str | None = None,
        fallback_price: str | None = None,
        max_cost: float | None = None,
    ) -> JudgeChoice:
        """Read the options that all commands with a judge share.

        Raises:
            UsageError: If one names no judge, does not belong to its judge, or cannot be read.
        """
        second = fallback is not None and "openai:" in fallback
        # A limit is for what costs something; where nothing does, the first judge refuses it.
        first = "openai:" in spec or not second
        chosen = cls(
            spec,
            fallback,
            _judge_options(headers, price, max_cost if first else None),
            _judge_options(fallback_headers, fallback_price, max_cost if second else None),
        )
        judge.check_judge(spec, fallback=fallback, fallback_options=chosen.fallback_options, **chosen.options)
        return chosen

    def open(self) -> Judge | None:
        """Make the judge, and say so where that takes its time."""
        for spec in (self.spec, self.fallback or ""):
            if "local:" in spec:
                say(f"loading the judge {spec}")
        return judge.parse_judge(
            self.spec, fallback=self.fallback, fallback_options=self.fallback_options, **self.options
        )


def open_judge(spec: str, fallback: str | None = None, **options: Any) -> Judge | None:
    """Make the judge of a command's options, see `JudgeChoice.read`.

    Raises:
        UsageError: If an option is wrong.
        JudgeError: If the judge cannot work.
        ModelError: If a local model cannot be loaded.
    """
    return JudgeChoice.read(spec, fallback, **options).open()


def _judge_options(
    headers: Sequence[str] | None, price: str | None, max_cost: float | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if headers:
        found["headers"] = read_headers(headers)
    if price is not None:
        values = numbers(price, "judge-price")
        if len(values) != 2:
            raise UsageError(
                f"--judge-price {price!r} is not two numbers",
                hint="give the prices of a million tokens sent and received, such as 0.4,1.6",
            )
        found["price_in"], found["price_out"] = values
    if max_cost is not None:
        found["max_cost"] = max_cost
    return found


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
        UsageError: If the map has no such layer, or an imported release stands for it and no model is named.
        StoreError: If there is no map, or the model is another one than the map's.
        ModelError: If the model cannot be loaded.
    """
    persona_map = source if isinstance(source, PersonaMap) else open_map(source)
    if layer is not None:
        persona_map.unit_axis(layer)
    name = model or persona_map.model.id
    if not name:
        raise UsageError(
            f"the release in {persona_map.folder} does not say of which model it is",
            hint="name the model by --model",
        )
    say(f"loading {name}")
    engine = engines.load_engine(
        name, engine=kind, dtype=dtype, max_batch=max_batch, workers=workers, address=address
    )
    if persona_map.model.chat_digest and engine.info.chat_digest != persona_map.model.chat_digest:
        other = engine.with_transcript()
        if other.info.chat_digest == persona_map.model.chat_digest:
            engine = other
    info = engine.info
    if isinstance(persona_map, interop.ReleasedMap):
        persona_map.use_model(
            MapModel(
                info.model_id, info.model_revision, info.dtype, info.n_layers, info.d_model, info.chat_digest
            )
        )
        return persona_map, engine
    persona_map.check_model(
        model_id=persona_map.model.id,
        revision=info.model_revision,
        n_layers=info.n_layers,
        d_model=info.d_model,
        chat_digest=info.chat_digest,
    )
    return persona_map, engine
