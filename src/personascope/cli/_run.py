"""Opening of a command's run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from personascope.cli._console import say, this_command

if TYPE_CHECKING:
    from personascope.api import MappedModel


def open_run(folder: Path, **loading: Any) -> MappedModel:
    """Open a run folder; the model is loaded on first use (`MappedModel.open`)."""
    from personascope.api import MappedModel

    return MappedModel.open(folder, tell=say, command=this_command(), **loading)
