"""A mapped model: its run folder, its map, and the model itself, which is loaded when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from personascope import engines
from personascope.api._chat_options import options_of_map, tell_thinking
from personascope.api._inputs import Tell, open_map, quiet
from personascope.api._layout import RunLayout
from personascope.directions import norms_for
from personascope.errors import SpaceError, UsageError
from personascope.identity import ModelIdentity
from personascope.runs import ProgressCallback
from personascope.space import MapModel, PersonaMap

if TYPE_CHECKING:
    from personascope.chat import ChatOptions
    from personascope.engines import LocalEngine


@dataclass(slots=True, eq=False)
class MappedModel:
    """What is worked with; use ``MappedModel.open``.

    Attributes:
        layout: Paths of the run folder.
        persona_map: The map.
        model: Name by which the model is loaded.
        loading: Options of `load_engine`.
        tell: Called with a line before something takes its time.
        progress: Whether to show bars, or what to call after each step instead.
        command: Recorded in the run folders that are written.
    """

    layout: RunLayout
    persona_map: PersonaMap
    model: str
    loading: Mapping[str, Any]
    tell: Tell = quiet
    progress: ProgressCallback | bool = True
    command: str = ""
    _engine: LocalEngine | None = field(default=None, repr=False)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        model: str | None = None,
        engine: str | LocalEngine = "transformers",
        dtype: str = "auto",
        max_batch: int = 128,
        workers: int = 1,
        address: str | None = None,
        tell: Tell = quiet,
        progress: ProgressCallback | bool = True,
        command: str = "",
    ) -> MappedModel:
        """Open a run folder: its map now, its model when something is asked of it.

        Args:
            folder: The run folder, the map folder in it, or an imported release in the place of a map.
            model: Name of the model, if it lies elsewhere than when it was mapped.
            engine: Name of an engine (`personascope.engines.ENGINES`), or an engine that is loaded already.
            dtype: Type of the weights.
            max_batch: Responses that are generated side by side.
            workers: Engines that share the requests; more than one need Ray.
            address: Ray cluster of the workers; this machine if not given.
            tell: Called with a line before something takes its time.
            progress: Whether to show bars, or what to call after each step instead.
            command: Recorded in the run folders that are written.

        Raises:
            StoreError: If there is no map.
        """
        persona_map = open_map(folder, tell)
        mapped = cls(
            RunLayout.of(folder),
            persona_map,
            model or persona_map.model.id,
            {
                "engine": engine if isinstance(engine, str) else "transformers",
                "dtype": dtype,
                "max_batch": max_batch,
                "workers": workers,
                "address": address,
            },
            tell,
            progress,
            command,
        )
        if not isinstance(engine, str):
            mapped._engine = mapped._checked(engine)
        return mapped

    @property
    def engine(self) -> LocalEngine:
        """The model, loaded on first use; it renders conversations as it did when it was mapped.

        Raises:
            UsageError: If no model was named, and the map is an imported release, which does not name one.
            StoreError: If it is another model than the map's.
            ModelError: If it cannot be loaded.
        """
        if self._engine is None:
            if not self.model:
                raise UsageError(
                    f"the release in {self.persona_map.folder} does not say of which model it is",
                    hint="name the model by --model",
                )
            options = options_of_map(self.persona_map.model)
            self._engine = self._checked(self.load(self.model, chat_options=options))
            tell_thinking(self._engine, self.tell)
        return self._engine

    def engine_between_tokens(self) -> LocalEngine:
        """Return the model for what acts between two tokens: where "auto" was asked for, on Transformers."""
        if self._engine is None and self.loading.get("engine") == "auto":
            self.loading = {**self.loading, "engine": "transformers"}
        return self.engine

    def load(self, name: str, *, chat_options: ChatOptions | None = None) -> LocalEngine:
        """Load a model by name with the options that this one is loaded with."""
        self.tell(f"loading {name} ...")
        return engines.load_engine(name, **self.loading, chat_options=chat_options)

    def _checked(self, engine: LocalEngine) -> LocalEngine:
        mine = self.persona_map.model
        if mine.chat_digest and engine.info.chat_digest != mine.chat_digest:
            other = engine.with_transcript()
            if other.info.chat_digest == mine.chat_digest:
                engine = other
        # Its tensors are PyTorch's, and a map is opened without it.
        from personascope.interop import ReleasedMap

        info = engine.info
        if isinstance(self.persona_map, ReleasedMap):
            self.persona_map.use_model(
                MapModel(
                    info.model_id,
                    info.model_revision,
                    info.dtype,
                    info.n_layers,
                    info.d_model,
                    info.chat_digest,
                    chat_options=dict(info.chat_options),
                    chat_date=info.chat_date,
                )
            )
            return engine
        self.persona_map.check_model(
            # It may lie under another name than when it was mapped, and a GGUF file has no revision.
            model_id=mine.id,
            revision=info.model_revision,
            n_layers=info.n_layers,
            d_model=info.d_model,
            chat_digest=info.chat_digest,
        )
        return engine

    def layer(self, layer: int | None = None) -> int:
        """Return a layer of the map, the middle one if none is given.

        Raises:
            UsageError: If the map has no such layer.
        """
        at = self.persona_map.middle_layer if layer is None else layer
        self.persona_map.unit_axis(at)
        return at

    def norms(self, engine: LocalEngine | None = None) -> Float64[np.ndarray, "L"]:
        """Return the unit of strengths at each layer: kept in the run folder, or measured and kept.

        Args:
            engine: A base model that this map's axis steers, whose norms are kept apart; the mapped model if
                not given.
        """
        if engine is None or self._is_mapped(engine):
            return norms_for(engine or self.engine, self.layout.folder, progress=self.progress).mean
        self.layout.base.mkdir(exist_ok=True)
        return norms_for(engine, self.layout.base, progress=self.progress).mean

    def _is_mapped(self, engine: LocalEngine) -> bool:
        info = engine.info
        given = ModelIdentity(info.model_id, info.model_revision, info.n_layers, info.d_model)
        return not self.persona_map.model.identity.differences(given)

    def require_axis(self, *, anyway: bool = False) -> None:
        """Refuse a map that found no axis, and tell the verdict on any other.

        Args:
            anyway: Do not.

        Raises:
            SpaceError: If that is the map's verdict.
        """
        verdict = self.persona_map.verdict()
        if verdict.axis.grade == "not found" and not anyway:
            raise SpaceError(
                f"the map in {self.persona_map.folder} found no axis: {'; '.join(verdict.axis.reasons)}",
                hint="map with more (--profile standard), with another corpus, or add --anyway to go on",
            )
        self.tell(f"verdict on the map: {verdict.headline}")
