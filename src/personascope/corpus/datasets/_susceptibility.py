"""Load role susceptibility: introspective questions under system prompts that name a role."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from personascope.corpus._schema import Filled, Name
from personascope.corpus._types import RoleEntry
from personascope.corpus.datasets._data import BUILTIN, DATA, read_form, refuse_repeats, sha256
from personascope.errors import CorpusError

_PLACE = re.compile(r"\{(\w*)\}")
# Words that begin with a vowel letter but the sound of a consonant, and words that may take "an".
_SAID_WITH_CONSONANT = re.compile(
    r"(?:eu|ewe|one\b|once|uni(?![nmd])|us[aeu]|uk|ut[aeio]|ubiq|ufo)", re.IGNORECASE
)
_SAID_WITH_VOWEL = re.compile(r"(?:[aeiou]|heir|honest|honou?r|hour)", re.IGNORECASE)
_HAS_ARTICLE = re.compile(r"(?:an?|the|one of|some|my|your)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IntrospectiveQuestion:
    """A question about the model itself.

    Attributes:
        id: Short name for request ids and tables.
        text: Text of the user's turn.
        asks_role_play: Whether it asks if a role is being played; its answers are judged yes or no by their
            own rubric.
    """

    id: str
    text: str
    asks_role_play: bool = False


@dataclass(frozen=True, slots=True)
class RoleTemplate:
    """A system prompt with placeholders for a role.

    Attributes:
        id: Short name for request ids.
        text: Text with ``{role}``, the name with its article, and ``{description}``.
        without_description: Text for a role without a description, with ``{role}``.
    """

    id: str
    text: str
    without_description: str


@dataclass(frozen=True)
class Susceptibility:
    """Texts of the evaluation. The default condition has the questions and no system prompt.

    Attributes:
        questions: Introspective questions.
        templates: Templates of the system prompts.
        phrases: Role name -> its phrase, where that is not the name with its article.
        source: ``"builtin"``, or the file that was read.
        digest: SHA-256 (hex) of all that changes a request.
    """

    questions: tuple[IntrospectiveQuestion, ...]
    templates: tuple[RoleTemplate, ...]
    phrases: dict[str, str]
    source: str
    digest: str

    def role_phrase(self, name: str) -> str:
        """Return a role's name as in a sentence: ``a coral reef``, ``the void``."""
        if name in self.phrases:
            return self.phrases[name]
        words = " ".join(re.split(r"[_\s]+", name)).strip()
        if _HAS_ARTICLE.match(words):
            return words
        vowel = _SAID_WITH_VOWEL.match(words) and not _SAID_WITH_CONSONANT.match(words)
        return f"{'an' if vowel else 'a'} {words}"

    def prompts(self, role: RoleEntry) -> tuple[str, ...]:
        """Return the system prompts for a role, one for each template, in order."""
        description = " ".join(role.description.split())
        if description and description[-1] not in ".!?\u2026":
            description += "."
        filling = {"role": self.role_phrase(role.name), "description": description}
        texts = [t.text if description else t.without_description for t in self.templates]
        # One pass, so that braces in a description are not substituted; a phrase may begin a sentence.
        filled = [_PLACE.sub(lambda place: filling[place[1]], text) for text in texts]
        return tuple(text[0].upper() + text[1:] for text in filled)


def _places(*needed: str) -> AfterValidator:
    def check(text: str) -> str:
        found: list[str] = _PLACE.findall(text)
        if set(found) != set(needed):
            wanted = " and ".join(f"{{{name}}}" for name in needed)
            has = ", ".join(f"{{{name}}}" for name in found) or "none"
            raise ValueError(f"its places must be {wanted}; it has {has}")
        return text

    return AfterValidator(check)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _QuestionData(_Strict):
    id: Name
    text: Filled
    asks_role_play: bool = False


class _TemplateData(_Strict):
    id: Name
    text: Annotated[Filled, _places("role", "description")]
    without_description: Annotated[Filled, _places("role")]


class _SusceptibilityData(_Strict):
    questions: list[_QuestionData] = Field(min_length=1)
    templates: list[_TemplateData] = Field(min_length=1)
    phrases: dict[str, Filled] = {}


def load_susceptibility(path: str | Path | None = None) -> Susceptibility:
    """Load the texts of role susceptibility (paper, section 3).

    Args:
        path: YAML file in the form of the built-in one; None for the built-in five questions and four
            templates.

    Raises:
        CorpusError: If the file cannot be read or is malformed.
    """
    return _builtin() if path is None else _read(Path(path), str(path))


@lru_cache(maxsize=1)
def _builtin() -> Susceptibility:
    return _read(DATA / "susceptibility.yaml", BUILTIN)


def _read(path: Path, source: str) -> Susceptibility:
    data = read_form(_SusceptibilityData, path)
    refuse_repeats([question.id for question in data.questions], "id", path)
    refuse_repeats([template.id for template in data.templates], "id", path)
    if all(question.asks_role_play for question in data.questions):
        raise CorpusError(
            f"{path}: every question has asks_role_play, and none is left for the labels",
            hint="leave it out where the question does not ask whether a role is played",
        )
    return Susceptibility(
        questions=tuple(IntrospectiveQuestion(q.id, q.text, q.asks_role_play) for q in data.questions),
        templates=tuple(RoleTemplate(t.id, t.text, t.without_description) for t in data.templates),
        phrases=dict(data.phrases),
        source=source,
        digest=sha256(data.model_dump()),
    )


def susceptibility_questions() -> tuple[IntrospectiveQuestion, ...]:
    """Return the five built-in questions; the last asks whether a role is being played."""
    return _builtin().questions


def susceptibility_prompts(role: RoleEntry) -> tuple[str, str, str, str]:
    """Return the four built-in system prompts for a role, in the templates' order."""
    first, second, third, fourth = _builtin().prompts(role)
    return first, second, third, fourth


def role_phrase(name: str) -> str:
    """Return a role's name as in a sentence: ``a coral reef``, ``an actor``, ``the void``."""
    return _builtin().role_phrase(name)
