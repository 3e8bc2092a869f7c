"""What is shared: the files of a thing, and the thing as it was opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from personascope.sharing._manifest import Kind

if TYPE_CHECKING:
    from personascope.dynamics.monitor import Monitor
    from personascope.interop import Released
    from personascope.interventions import Plan
    from personascope.space import PersonaMap


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Files to share, and the opened thing that their card is made from.

    Attributes:
        kind: Kind of the thing.
        files: Path in the shared folder -> local file.
        value: The opened thing: a map for a run, or a plan, a monitor, a release.
        model: Name and revision of the model; None if the thing does not say.
        texts: Whether responses of the model are among the files.
    """

    kind: Kind
    files: Mapping[str, Path]
    value: PersonaMap | Plan | Monitor | Released
    model: tuple[str, str] | None
    texts: bool = False
