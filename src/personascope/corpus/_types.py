"""Define a corpus, and digests that tell whether two corpora ask the same."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

from rapidfuzz import process

from personascope.errors import CorpusError, UsageError

PROMPTS_PER_ROLE = 5
"""Number of system prompts of a role, and of the default (paper, section 2)."""

QUESTION_COUNT = 240
"""Number of questions that every role is asked in the paper's design."""

PERSONAL = "personal"
"""Kind of the questions about the answerer's own life, which no design draws unless told to."""

DEFAULT_NAME = "default"
"""Name of the condition without a role; no role may have it."""


@dataclass(frozen=True)
class RoleEntry:
    """One role.

    Attributes:
        name: Name of the role, used in request ids and file names.
        group: Kind of role (``profession``, ``myth`` ...); empty where the format has none.
        description: Description in one line; empty where the format has none.
        prompts: System prompts, in order; a prompt's index is part of a request's identity.
        eval_prompt: Judge prompt of the role with ``{question}`` and ``{answer}``, or None for the judge's
            general rubric.
    """

    name: str
    group: str
    description: str
    prompts: tuple[str, ...]
    eval_prompt: str | None = None


@dataclass(frozen=True)
class Question:
    """One question that every role is asked.

    Attributes:
        id: Label for people; requests are identified by the question's position instead.
        area: Area of life; empty where the format has none.
        text: Text of the user's turn.
        kind: Kind of answer that it asks for (``view``, ``advice`` ...); empty where the format has none.
    """

    id: str
    area: str
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Corpus:
    """Roles, questions and the default's prompts.

    Attributes:
        name: Name of the corpus.
        roles: Roles, which the loaders sort by name.
        questions: Questions, in file order.
        default_prompts: System prompts of the default condition. One may be empty (no system prompt), and
            ``{model_name}`` in one is filled when the requests are designed.
        source: ``"builtin"``, or the folder that it was read from.
        version: Version of the texts, empty where unknown.
        licence: Licence of the texts, empty where unknown.

    Raises:
        CorpusError: If two roles or two questions share a name, or a role is called ``default``.
    """

    name: str
    roles: tuple[RoleEntry, ...]
    questions: tuple[Question, ...]
    default_prompts: tuple[str, ...]
    source: str
    version: str = ""
    licence: str = ""

    def __repr__(self) -> str:
        """Return the name, and the numbers of roles and questions."""
        return f"Corpus({self.name!r}: {len(self.roles)} roles, {len(self.questions)} questions)"

    def __post_init__(self) -> None:
        """Refuse names that would give two requests one identity."""
        names = Counter(role.name for role in self.roles)
        if DEFAULT_NAME in names:
            raise CorpusError(
                f"corpus {self.name!r}: a role is called {DEFAULT_NAME!r}, like the condition without a role",
                hint="give the role another name, or put its prompts in the default's file",
            )
        for kind, counts in (("role", names), ("question id", Counter(q.id for q in self.questions))):
            twice = [name for name, count in counts.items() if count > 1]
            if twice:
                raise CorpusError(
                    f"corpus {self.name!r}: {kind} {twice[0]!r} occurs {counts[twice[0]]} times",
                    hint=f"rename or remove all but one {kind} {twice[0]!r}",
                )

    @property
    def requests_digest(self) -> str:
        """SHA-256 (hex) of all that changes a request, and of nothing else.

        It covers role names and prompts, the questions' texts in order, and the default's prompts. It leaves
        out groups, areas, question ids, and what only the judge reads. The same texts have the same digest in
        both formats.
        """
        return _sha256(self._requests())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all that changes a request or its judging, and of nothing else.

        Beyond ``requests_digest`` it covers each role's judge prompt or, where it has none, its description,
        which the general rubric quotes. `write_released` leaves out descriptions, so a corpus read back
        judges a role without a judge prompt by its name alone, and this digest differs.
        """
        judged = [[r.description if r.eval_prompt is None else "", r.eval_prompt] for r in self.roles]
        return _sha256({**self._requests(), "judging": judged})

    def _requests(self) -> dict[str, object]:
        return {
            "roles": [[role.name, list(role.prompts)] for role in self.roles],
            "questions": [question.text for question in self.questions],
            "default": list(self.default_prompts),
        }

    def role(self, name: str) -> RoleEntry:
        """Return the role called ``name``.

        Raises:
            UsageError: If there is no such role; the message names the nearest ones.
        """
        for entry in self.roles:
            if entry.name == name:
                return entry
        near = [str(found[0]) for found in process.extract(name, [r.name for r in self.roles], limit=3)]
        raise UsageError(
            f"corpus {self.name!r} has no role {name!r} (it has {len(self.roles)} roles)",
            hint=f"did you mean {', '.join(near)}?" if near else "load a corpus with roles",
        )


def _sha256(content: dict[str, object]) -> str:
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
