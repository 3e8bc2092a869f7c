"""Load the texts of simulated conversations: domains with user personas and topics, and case studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from personascope.corpus._files import read_yaml
from personascope.corpus._schema import Filled, Name, validate
from personascope.corpus.datasets import refuse_repeats
from personascope.errors import CorpusError, UsageError

DATA = Path(__file__).parent / "data"
DOMAINS = ("coding", "writing", "therapy", "philosophy")
"""Built-in domains, the paper's four (section 4 of arXiv 2601.10387)."""


@dataclass(frozen=True, slots=True)
class UserPersona:
    """Persona of the simulated user.

    Attributes:
        id: Id, unique in its domain.
        description: Description for an auditor model, in the second person.
        remarks: Messages of a scripted user that fit anywhere after the first.
    """

    id: str
    description: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """Topic of a conversation.

    Attributes:
        id: Id, unique in its domain.
        brief: Brief for an auditor model.
        messages: Messages of a scripted user in order, the opening first, whatever the replies are.
    """

    id: str
    brief: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of conversations.

    Attributes:
        name: Name of the domain.
        description: Description for an auditor model.
        personas: Personas of the user.
        topics: Topics in order; topics of the same number pair the conversations of two domains.
    """

    name: str
    description: str
    personas: tuple[UserPersona, ...]
    topics: tuple[Topic, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation in which every message of the user is written out.

    Attributes:
        id: Id, unique in its file.
        title: Title for a heading.
        brief: Statement of what it shows, and of what to look for in the replies.
        messages: Messages of the user, in order.
    """

    id: str
    title: str
    brief: str
    messages: tuple[str, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Persona(_Strict):
    id: Name
    description: Filled
    remarks: list[Filled] = Field(default_factory=list)


class _Topic(_Strict):
    id: Name
    brief: Filled
    messages: list[Filled] = Field(min_length=1)


class _Domain(_Strict):
    domain: Name
    description: Filled
    personas: list[_Persona] = Field(min_length=1)
    topics: list[_Topic] = Field(min_length=1)


class _Case(_Strict):
    id: Name
    title: Filled
    brief: Filled
    messages: list[Filled] = Field(min_length=1)


class _Cases(_Strict):
    domain: Name
    description: Filled
    cases: list[_Case] = Field(min_length=1)


def load_domain(source: str | Path) -> Domain:
    """Load a domain: a built-in one by name, or a YAML file of the same form.

    Raises:
        UsageError: If the source is neither.
        CorpusError: If the file cannot be read, breaks the schema, or repeats an id.
    """
    path = DATA / f"{source}.yaml" if str(source) in DOMAINS else Path(source)
    if not path.is_file():
        raise UsageError(
            f"there is no domain {str(source)!r}",
            hint=f"give {', '.join(DOMAINS)}, or a YAML file of the same form",
        )
    found = validate(_Domain, read_yaml(path), path=path)
    refuse_repeats([persona.id for persona in found.personas], "persona", path)
    refuse_repeats([topic.id for topic in found.topics], "topic", path)
    return Domain(
        found.domain,
        found.description,
        tuple(UserPersona(p.id, p.description, tuple(p.remarks)) for p in found.personas),
        tuple(Topic(t.id, t.brief, tuple(t.messages)) for t in found.topics),
    )


def load_domains(sources: tuple[str | Path, ...] = DOMAINS) -> tuple[Domain, ...]:
    """Load domains in order.

    Raises:
        CorpusError: If two have the same name, or one cannot be loaded.
        UsageError: As for `load_domain`.
    """
    found = tuple(load_domain(source) for source in sources)
    names = [domain.name for domain in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"the domain {twice!r} is given twice", hint="give each once")
    return found


def load_cases(path: Path | None = None) -> tuple[Case, ...]:
    """Load the case studies: the built-in three, or a YAML file of the same form.

    Raises:
        CorpusError: If the file cannot be read, breaks the schema, or repeats an id.
    """
    where = path or DATA / "cases.yaml"
    found = validate(_Cases, read_yaml(where), path=where)
    refuse_repeats([case.id for case in found.cases], "case", where)
    return tuple(Case(c.id, c.title, c.brief, tuple(c.messages)) for c in found.cases)
