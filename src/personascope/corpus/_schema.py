"""Define the schema of both formats, and report violations of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from personascope.errors import CorpusError
from personascope.store import problem_of, short

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Pattern of names that fit in a request id and a file name; the check asks for the narrower slug form."""


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _judge_prompt(value: str) -> str:
    missing = [name for name in ("{question}", "{answer}") if name not in value]
    if missing and value.strip():
        raise ValueError(f"lacks the placeholder {' and '.join(missing)}")
    return value


Filled = Annotated[str, AfterValidator(_not_blank)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
JudgePrompt = Annotated[str, AfterValidator(_judge_prompt)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RoleData(_Strict):
    """A role in the project's format; the group may stand at the top of the file instead."""

    name: Name
    group: Name | None = None
    description: Filled
    prompts: list[Filled] = Field(min_length=1)
    eval_prompt: JudgePrompt | None = None


class PairData(_Strict):
    """A pair of system prompts of a trait in the project's format."""

    positive: Filled
    negative: Filled


class TraitData(_Strict):
    """A trait in the project's format; the group may stand at the top of the file instead."""

    name: Name
    group: Name | None = None
    description: Filled
    pairs: list[PairData] = Field(min_length=1)
    questions: list[Filled] = []
    eval_prompt: JudgePrompt | None = None


class QuestionData(_Strict):
    """A question in the project's format."""

    id: Name
    area: Name
    text: Filled
    kind: Name | None = None


class DefaultData(_Strict):
    """The default condition in the project's format; a prompt may be empty."""

    prompts: list[str] = Field(min_length=1)


class CorpusData(_Strict):
    """Fields of ``corpus.yaml``, which describe the corpus as a whole."""

    name: Name
    version: Filled = ""
    licence: Filled = ""


def _prompt(value: object) -> object:
    return {"pos": value} if isinstance(value, str) else value


class ReleasedPrompt(_Strict):
    """One instruction of a released role file: ``{"pos": text}``, or the text alone."""

    pos: Filled


class ReleasedDefaultPrompt(_Strict):
    """One instruction of the released default; it may be empty."""

    pos: str


class ReleasedRole(_Strict):
    """A released role file, named after its role. Group and description are our additions."""

    instruction: list[Annotated[ReleasedPrompt, BeforeValidator(_prompt)]] = Field(min_length=1)
    questions: list[Filled] = []
    eval_prompt: JudgePrompt | None = None
    group: Name | None = None
    description: str = ""


class ReleasedPair(_Strict):
    """One instruction of a released trait file."""

    pos: Filled
    neg: Filled


class ReleasedTrait(_Strict):
    """A released trait file, named after its trait. Group and description are our additions."""

    instruction: list[ReleasedPair] = Field(min_length=1)
    questions: list[Filled] = []
    eval_prompt: JudgePrompt | None = None
    group: Name | None = None
    description: str = ""


class ListedRole(_Strict):
    """An entry of a list of roles, or of traits, with their descriptions."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    name: Filled = Field(validation_alias=AliasChoices("name", "role", "trait"))
    description: str = ""


class ReleasedDefault(_Strict):
    """The released file of the default condition."""

    instruction: list[Annotated[ReleasedDefaultPrompt, BeforeValidator(_prompt)]] = Field(min_length=1)
    questions: list[Filled] = []
    eval_prompt: JudgePrompt | None = None


class ReleasedQuestion(_Strict):
    """A line of the released questions. Kind and area are our additions."""

    question: Filled
    id: int | Name | None = None
    kind: Name | None = None
    area: Name | None = None


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], value: object, *, path: Path, entry: str = "") -> Model:
    """Return ``value`` as an instance of ``model``.

    Args:
        model: Schema to validate against.
        value: Value from the file.
        path: Path of the file, for the message.
        entry: Entry of the file, for the message.

    Raises:
        CorpusError: If the value violates the schema. The message names file, entry, field and value, and
            gives a hint.
    """
    where = f"{path}: {entry}" if entry else str(path)
    fields = ", ".join(model.model_fields)
    if not isinstance(value, dict):
        raise CorpusError(
            f"{where}: {short(value)} is a {type(value).__name__}, not a mapping",
            hint=f"give it the fields {fields}",
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = problem_of(error, unions=True)
        field, kind = found.field, found.kind
        if kind == "missing":
            what, hint = f"the field {field!r} is missing", f"add {field!r}; the fields are {fields}"
        elif kind == "extra_forbidden":
            what = f"unknown field {field!r} (value {found.value})"
            hint = f"remove or rename it; the fields are {fields}"
            if field.endswith(".neg"):
                hint = "this is a trait's file, not a role's: a role has only 'pos'"
        else:
            what = f"field {field!r} has the value {found.value}: {found.reason}"
            hint = _hint(kind, field)
        more = f" ({found.more} more in this entry)" if found.more else ""
        raise CorpusError(f"{where}: {what}{more}", hint=hint) from None


def _hint(kind: str, field: str) -> str:
    """Return how to correct a field."""
    if kind == "string_pattern_mismatch":
        return f"write {field!r} with letters, digits, '_', '-' and '.' only"
    if kind == "string_type":
        return f"write {field!r} as text (quote it if YAML takes it for a number or a truth value)"
    if kind in {"list_type", "too_short"}:
        return f"write {field!r} as a list with at least one entry"
    if field.endswith("eval_prompt"):
        return "put {question} and {answer} where they belong in the judge prompt"
    return f"give {field!r} its text"
