"""A mapped model: its run folder, its map, and the model itself, which is loaded on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from personascope import engines
from personascope.api._chat_options import options_of_map, tell_thinking
from personascope.api._inputs import Tell, as_local, open_map, quiet
from personascope.api._layout import RunLayout
from personascope.directions import estimate_norms, norms_for
from personascope.errors import SpaceError, UsageError
from personascope.identity import ModelIdentity
from personascope.runs import ProgressCallback, WorkStep
from personascope.space import MapModel, PersonaMap

if TYPE_CHECKING:
    from personascope.chat import ChatOptions
    from personascope.engines import LocalEngine


@dataclass(slots=True, eq=False)
class MappedModel:
    """A model with its map and run folder; create it with ``MappedModel.open``.

    Attributes:
        layout: Paths of the run folder.
        persona_map: Map of the model.
        model: Name by which the model is loaded.
        loading: Options of `load_engine`.
        tell: Callback for status messages before slow steps.
        progress: Whether to show progress bars, or a callback to call after each step instead.
        command: Command line to record in the run folders that are written.
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
        """Open a run folder: its map immediately, its model on first use.

        Args:
            folder: Run folder, the map folder in it, an imported release in place of a map, or an address on
                the hub, of which a copy is opened.
            model: Name of the model, if its location has changed since it was mapped.
            engine: Name of an engine (`personascope.engines.ENGINES`), or an engine that is already loaded.
            dtype: Dtype of the weights.
            max_batch: Maximum batch size of generation.
            workers: Number of engines that share the requests; more than one needs Ray.
            address: Address of the workers' Ray cluster; this machine if not given.
            tell: Callback for status messages before slow steps.
            progress: Whether to show progress bars, or a callback to call after each step instead.
            command: Command line to record in the run folders that are written.

        Raises:
            StoreError: If there is no map, or a given engine's model is not the map's.
        """
        folder = as_local(folder, tell=tell)
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
        """Engine of the model, loaded on first use with the chat-template options of the map.

        Raises:
            UsageError: If no model was named, and the map is an imported release, which does not name one.
            StoreError: If the model is not the map's.
            ModelError: If the model cannot be loaded.
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
        """Return an engine that can act between two tokens: the engine "auto" then becomes Transformers."""
        if self._engine is None and self.loading.get("engine") == "auto":
            self.loading = {**self.loading, "engine": "transformers"}
        return self.engine

    def load(self, name: str, *, chat_options: ChatOptions | None = None) -> LocalEngine:
        """Load another model by name, with this model's loading options."""
        self.tell(f"loading {name} ...")
        return engines.load_engine(name, **self.loading, chat_options=chat_options)

    def _checked(self, engine: LocalEngine) -> LocalEngine:
        mine = self.persona_map.model
        if mine.chat_digest and engine.info.chat_digest != mine.chat_digest:
            other = engine.with_transcript()
            if other.info.chat_digest == mine.chat_digest:
                engine = other
        # Import late: this needs PyTorch, which opening a map does not.
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
            # Pass the map's own id, because the model's location may have changed and a GGUF file has no
            # revision.
            model_id=mine.id,
            revision=info.model_revision,
            n_layers=info.n_layers,
            d_model=info.d_model,
            chat_digest=info.chat_digest,
        )
        return engine

    def layer(self, layer: int | None = None) -> int:
        """Check and return a layer of the map; the middle layer if none is given.

        Raises:
            UsageError: If the map has no such layer.
        """
        at = self.persona_map.middle_layer if layer is None else layer
        self.persona_map.unit_axis(at)
        return at

    def norms(self, engine: LocalEngine | None = None) -> Float64[np.ndarray, "L"]:
        """Return the mean norm at each layer, the unit of strengths; measure and store it if needed.

        Args:
            engine: Engine of a base model that is steered with this map's axis, whose norms are stored
                separately; the mapped model if not given.
        """
        if engine is None or self._is_mapped(engine):
            return norms_for(engine or self.engine, self.layout.folder, progress=self.progress).mean
        self.layout.base.mkdir(exist_ok=True)
        return norms_for(engine, self.layout.base, progress=self.progress).mean

    def estimate_norms(self, engine: LocalEngine | None = None) -> tuple[np.ndarray, WorkStep | None]:
        """Return the norms as in `norms`, and what measuring them would take; nothing is stored.

        Args:
            engine: As in `norms`.

        Returns:
            Norms that are stored, and None; or those of a few chats, and the work that measuring them on all
            would be.
        """
        base = engine is not None and not self._is_mapped(engine)
        folder = self.layout.base if base else self.layout.folder
        found, step = estimate_norms(engine or self.engine, folder)
        return found.mean, step

    def _is_mapped(self, engine: LocalEngine) -> bool:
        info = engine.info
        given = ModelIdentity(info.model_id, info.model_revision, info.n_layers, info.d_model)
        return not self.persona_map.model.identity.differences(given)

    def require_axis(self, *, anyway: bool = False) -> None:
        """Check that the map found an axis, and report its verdict.

        Args:
            anyway: Accept a map without an axis.

        Raises:
            SpaceError: If the map found no axis and ``anyway`` is False.
        """
        verdict = self.persona_map.verdict()
        if verdict.axis.grade == "not found" and not anyway:
            raise SpaceError(
                f"the map in {self.persona_map.folder} found no axis: {'; '.join(verdict.axis.reasons)}",
                hint="map with more (--profile standard) or another corpus, or go on: --anyway, anyway=True",
            )
        self.tell(f"verdict on the map: {verdict.headline}")
