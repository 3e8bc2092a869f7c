"""An opened persona map: what it found, its directions and plans, and conversations placed in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from personascope import __version__, api, report
from personascope.api._map_values import layer_rows, role_rows
from personascope.api._tabular import data_frame
from personascope.api.notebook._chats import Chat, as_source
from personascope.api.notebook._direction import Direction
from personascope.api.notebook._fit import fitted
from personascope.api.notebook._plans import Layers, cap_plan, steer_plan, with_map
from personascope.api.notebook._projected import ProjectedChats
from personascope.api.notebook._roles import card
from personascope.api.notebook._status import say
from personascope.directions import AXIS, parse_probes
from personascope.errors import UsageError
from personascope.interventions import Plan
from personascope.runs import Progress, shown
from personascope.text import escape_controls, shorten

if TYPE_CHECKING:
    import pandas

    from personascope import space
    from personascope.api import MappedModel, Pages, RunLayout
    from personascope.api._exchange import Form
    from personascope.api.notebook._model import Model


class PersonaMap:
    """A map of a model's persona space, opened from its run folder; create it with `map` or `open`.

    Layers are 0-based, and layer l is the residual stream after block l. Positions are in units of the map: 0
    is the mean role, 1 the default Assistant.

    Attributes:
        anyway: Whether to go on with a map that found no axis.
    """

    def __init__(self, mapped: MappedModel, *, model: Model | None = None, anyway: bool = False) -> None:
        """Wrap an opened run; use `open` instead."""
        self._mapped = mapped
        self._model = model
        self._bound: tuple[Model, MappedModel] | None = None
        self.anyway = anyway
        if model is not None:
            self.mapped(model)

    @property
    def arrays(self) -> space.PersonaMap:
        """The map's vectors and statistics as NumPy arrays, for code of your own."""
        return self._mapped.persona_map

    @property
    def folder(self) -> Path:
        """Run folder."""
        return self._mapped.layout.folder

    @property
    def layout(self) -> RunLayout:
        """Paths in the run folder."""
        return self._mapped.layout

    @property
    def model_id(self) -> str:
        """Name of the model that was mapped; "" for an imported release."""
        return self.arrays.model.id

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.arrays.n_layers

    @property
    def middle_layer(self) -> int:
        """Layer of positions, and the default layer of directions and steering."""
        return self.arrays.middle_layer

    def verdict(self, layer: int | None = None) -> space.Verdict:
        """Return whether there is an axis, it is the main component, and the default is at its end.

        Raises:
            UsageError: If the map has no such layer.
        """
        return self.arrays.verdict(layer)

    def mapped(self, model: Model | None = None) -> MappedModel:
        """Return the run with its model, which the functions of `personascope.api` take.

        Args:
            model: Loaded model; the one that the map was made or opened with if not given, or else the map's
                own, which is loaded on first use.

        Raises:
            StoreError: If the model is not the map's.
            UsageError: If it is not loaded.
        """
        chosen = model or self._model
        if chosen is None:
            return self._mapped
        if self._bound is None or self._bound[0] is not chosen:
            if not hasattr(chosen, "engine"):
                raise UsageError(f"{shorten(str(chosen))} is no loaded model", hint="give ps.load(...)")
            bound = api.MappedModel.open(
                self.folder,
                engine=fitted(chosen.engine, self.arrays),
                tell=say,
                progress=self._mapped.progress,
            )
            self._bound = (chosen, bound)
        chosen.pmap = self
        return self._bound[1]

    @cached_property
    def roles(self) -> pandas.DataFrame:
        """Roles by position at the middle layer, nearest the Assistant first, as a DataFrame indexed by role.

        Columns: the position with its 95% interval (low, high), the raw projection, the number of responses
        in the vector (n), and the share of responses that played the role (played). Roles without a vector
        stand at the end, without a position.
        """
        rows, columns = role_rows(self.arrays)
        return data_frame(rows, columns).set_index("role")

    @cached_property
    def layers(self) -> pandas.DataFrame:
        """Statistics of every layer as a DataFrame: cosines, null, reliabilities, with their intervals."""
        return data_frame(layer_rows(self.arrays)).set_index("layer")

    def axis(self) -> Direction:
        """Return the Assistant Axis as a direction, toward the Assistant."""
        return self._direction(AXIS, self.arrays.unit_axis)

    def direction(self, name: str | Direction) -> Direction:
        """Return a named direction: "axis", "pc1", "role:poet", "trait:blunt", or [NAME=]FILE of a vector.

        Raises:
            UsageError: If there is no such direction.
            InteropError: If a file is damaged or of another model's shape.
        """
        if isinstance(name, Direction):
            return name
        if "@" in name:
            raise UsageError(f"{name!r} names a layer", hint="leave it out: a direction has all layers")

        def vector(layer: int) -> Float[np.ndarray, "d"]:
            (found,) = parse_probes(self.arrays, (name,), layer)
            return found.probe.direction

        (first,) = parse_probes(self.arrays, (name,), self.middle_layer)
        return self._direction(first.name, vector)

    def trait(self, name: str) -> Direction:
        """Return a trait's direction, toward its positive pole; it needs `personascope.traits` on this map.

        Raises:
            UsageError: If the map has no vector of the trait.
        """
        return self.direction(f"trait:{name}")

    def _direction(self, name: str, vector: Any) -> Direction:
        return Direction(name, self.n_layers, self.arrays.d_model, vector, self.middle_layer)

    def steer(
        self,
        strength: float,
        *,
        direction: Direction | str | None = None,
        layer: int | None = None,
        tokens: str = "all",
        model: Model | None = None,
    ) -> Plan:
        """Return a plan that steers along the axis, or along another direction.

        Args:
            strength: Fraction of the layer's mean norm; negative moves away from the Assistant.
            direction: Direction instead of the axis.
            layer: Layer to steer at; the map's middle layer if not given.
            tokens: Tokens to act on, as in `personascope.Steer`.
            model: Model whose norms are measured where the run does not have them yet.

        Raises:
            SpaceError: If the map found no axis, and no direction is given.
            UsageError: If the map has no such layer or direction.
        """
        mapped = self.mapped(model)
        along = None if direction is None else self.direction(direction)
        if along is None:
            mapped.require_axis(anyway=self.anyway)
        return with_map(steer_plan(mapped, strength, direction=along, layer=layer, tokens=tokens), self)

    def cap(
        self,
        *,
        percentile: float | None = None,
        position: float | None = None,
        mean_plus_sd: float | None = None,
        layers: Layers | None = None,
        direction: Direction | str | None = None,
        tokens: str = "all",
    ) -> Plan:
        """Return a plan that keeps the projection on the axis at or above a floor (section 5 of the paper).

        Args:
            percentile: Floor as a percentile of responses in a role on the axis; higher is stronger. It is
                read from the run's kept responses.
            position: Floor as a position: 0 is the mean role, 1 the default Assistant.
            mean_plus_sd: Floor as a distance from the mean of responses in a role, in standard deviations.
            layers: Band of layers, end-exclusive: (12, 20), range(12, 20) or "12:20"; a default band if not
                given.
            direction: Direction instead of the axis.
            tokens: Tokens to act on, as in `personascope.Cap`.

        Raises:
            UsageError: If not exactly one floor is given, or the band does not fit the map.
            SpaceError: If the map found no axis.
            EvaluationError: If the run kept no response.
        """
        floors = {"percentile": percentile, "position": position, "mean_plus_sd": mean_plus_sd}
        along = None if direction is None else self.direction(direction)
        plan = cap_plan(self._mapped, layers, floors, direction=along, tokens=tokens, anyway=self.anyway)
        return with_map(plan, self)

    def control(self, plan: Plan, *, draw: int = 0, seed: int = 0) -> Plan:
        """Return the control of a plan on a random direction; the floors of its caps fire equally often.

        Raises:
            UsageError: If the plan has no such control.
            EvaluationError: If the plan has caps and the run kept no response.
        """
        return with_map(api.make_random_control(self._mapped, plan, draw=draw, seed=seed), self)

    def project(
        self,
        chat: Chat,
        model: Model | None = None,
        *,
        probes: Sequence[Direction | str] = (),
        layer: int | None = None,
        limit: int | None = None,
        max_tokens: int | None = None,
        plan: Plan | Path | str | None = None,
        part: str = "answer",
        out: Path | str | None = None,
        restart: bool = False,
    ) -> ProjectedChats:
        """Place every turn of a conversation, or of many, on the axis and on other directions.

        Args:
            chat: List of messages, list of such lists, reply or chat session, text, file or folder.
            model: Loaded model; the map's own if not given.
            probes: Other directions, or their names as in `direction`, each at the same layer.
            layer: Layer at which they are read; the map's middle layer if not given.
            limit: Maximum number of conversations.
            max_tokens: Longest conversation in tokens; longer ones are cut to the whole messages that fit.
            plan: Plan applied while the model reads.
            part: Tokens of each turn that are read: "answer", "thinking", "response", "prompt" or "turn:N".
            out: Run folder, for many conversations: an interrupted run is resumed.
            restart: Discard the run that is already in the folder.

        Raises:
            UsageError: If there is no conversation, or no such direction, layer or part.
            StoreError: If the model is not the map's.
        """
        source, mapped = as_source(chat), self.mapped(model)
        at = mapped.layer(layer)
        wanted = tuple(one.probe(at) if isinstance(one, Direction) else one for one in probes)
        found = api.project(
            mapped, source, probes=wanted, layer=at, limit=limit, max_tokens=max_tokens, plan=plan,
            part=part, out=None if out is None else Path(out), restart=restart,
        )  # fmt: skip
        with shown(mapped.progress if source.files and out is None else False) as tell:
            entries: list[Any] = []
            for entry in found:
                entries.append(entry)
                if tell is not None:
                    tell(Progress("project", len(entries)))
        title = f"Positions of turns: {self.model_id or self.folder}, layer {at}"
        return ProjectedChats(tuple(entries), at, found.probes, title, source.name, str(self.folder))

    def plot(self, layer: int | None = None) -> report.Plot:
        """Return the persona space in three dimensions; saved as HTML it is the interactive report.

        Args:
            layer: Layer; the map's middle layer if not given.

        Raises:
            UsageError: If the map has no such layer, or is an imported release, which has no components.
        """
        data = report.SpaceData.of(self.arrays, self._mapped.layer(layer))
        model = self.arrays.model
        about = {
            "map": self.arrays.digest,
            "model": f"{model.id} {model.revision}".strip(),
            "layer": str(self.middle_layer if layer is None else layer),
            "personascope": __version__,
        }
        return report.Plot(
            data.title, lambda path: report.space_figure(path, data), about, lambda path: self.report(path)
        )

    def report(self, path: Path | str | None = None) -> Pages:
        """Write the report: an interactive page with the space, its statistics and sample answers.

        Args:
            path: File of the page; ``report.html`` in the run folder if not given.

        Raises:
            UsageError: If the map is an imported release.
            StoreError: If the page cannot be written.
        """
        return api.write_pages(self.folder, out=path, tell=say)

    def export(self, to: Form, path: Path | str, **options: Any) -> None:
        """Write the map for other programs, as `personascope.api.export` does."""
        api.export(self.folder, to, path, **options)

    def __repr__(self) -> str:
        """Return model, verdict, size and folder on one line."""
        found = self.arrays
        return escape_controls(
            f"PersonaMap({self.model_id or 'imported release'}: {found.verdict().headline}; "
            f"{len(found.roles)} roles, layer {self.middle_layer} of {self.n_layers}; {self.folder})"
        )

    def _repr_html_(self) -> str:
        """Return a card for a notebook: the verdict with its reasons, and the roles at both ends."""
        return card(self.arrays, self.folder)
