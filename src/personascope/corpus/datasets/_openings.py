"""The openings that pre-trained models complete."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from personascope.corpus._schema import Filled, Name
from personascope.corpus.datasets._data import DATA, read_form, refuse_repeats


@dataclass(frozen=True, slots=True)
class Opening:
    """The beginning of a sentence, without a space at its end.

    Attributes:
        id: Short name for tables.
        text: What the model continues.
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
    """Return the openings.

    Args:
        path: A YAML file of the built-in one's form; None for the five of the paper (section 3).

    Raises:
        CorpusError: The file cannot be read or is malformed.
    """
    file = DATA / "openings.yaml" if path is None else Path(path)
    data = read_form(_OpeningsData, file)
    refuse_repeats([opening.id for opening in data.openings], "id", file)
    # A space at the end would make the next token one that the model has hardly seen there.
    return tuple(Opening(opening.id, opening.text.strip()) for opening in data.openings)
