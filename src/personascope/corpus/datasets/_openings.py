"""Load the openings that pre-trained models complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from personascope.corpus._schema import Filled, Name
from personascope.corpus.datasets._data import DATA, read_form, refuse_repeats


@dataclass(frozen=True, slots=True)
class Opening:
    """Beginning of a sentence, without a space at its end.

    Attributes:
        id: Short name for tables.
        text: Text that the model continues.
    """

    id: str
    text: str


class _OpeningData(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Name
    text: Filled


class _OpeningsData(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    openings: list[_OpeningData] = Field(min_length=1)


def load_openings(path: str | Path | None = None) -> tuple[Opening, ...]:
    """Load the openings.

    Args:
        path: YAML file in the form of the built-in one; None for the five of the paper (section 3).

    Raises:
        CorpusError: If the file cannot be read or is malformed.
    """
    file = DATA / "openings.yaml" if path is None else Path(path)
    data = read_form(_OpeningsData, file)
    refuse_repeats([opening.id for opening in data.openings], "id", file)
    # After a trailing space, the next token would be one that the model has hardly seen there.
    return tuple(Opening(opening.id, opening.text.strip()) for opening in data.openings)
