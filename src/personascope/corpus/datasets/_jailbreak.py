"""Load persona jailbreaks (system prompt, question, category): the built-in set, or the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from personascope.corpus.datasets._data import BUILTIN, sha256
from personascope.corpus.datasets._personas import Persona, builtin_data, by_turns, crossed, load_personas
from personascope.corpus.datasets._sources import Record, read_records
from personascope.errors import CorpusError, UsageError
from personascope.store import short

# Column names of each field; the first one that a set has counts. Case, spaces, '_' and '-' are ignored.
_ALIASES: dict[str, tuple[str, ...]] = {
    "system_prompt": ("systemprompt", "system", "systemmessage", "personaprompt"),
    "question": ("question", "userprompt", "prompt", "request", "goal", "forbiddenprompt", "behavior"),
    "category": ("category", "harmcategory", "semanticcategory", "topic"),
    "persona": ("persona", "personaname", "personaid"),
    "context": ("contextstring", "context"),
    "id": ("id", "itemid", "questionid", "behaviorid"),
}
# Columns of published sets that have questions only: StrongREJECT and HarmBench.
_PUBLISHED = ({"category", "forbiddenprompt"}, {"behavior", "semanticcategory", "behaviorid"})
_NO_CATEGORY = "all"
_NONE = "none"


@dataclass(frozen=True, slots=True)
class JailbreakItem:
    """One request of the evaluation.

    Attributes:
        id: Id ``<question>/<persona>``, where the persona is ``none`` for a question alone.
        system_prompt: System prompt that gives the persona; empty for none.
        question: Text of the user's turn.
        category: Kind of harm.
        persona: Name of the persona; empty for none.
    """

    id: str
    system_prompt: str
    question: str
    category: str
    persona: str


@dataclass(frozen=True, slots=True)
class JailbreakSet:
    """A set of requests, and the rows of its source that could not be used.

    Attributes:
        items: Pairs of persona and question, ordered so that any beginning is balanced over categories (and
            over personas, where they were crossed).
        plain: Questions of ``items`` without a persona, each once. Without a limit, also those that the
            source has only without a persona.
        problems: One line for each row that is not in the set, with its place.
        source: ``"builtin"``, or the source that the user named.
    """

    items: tuple[JailbreakItem, ...]
    plain: tuple[JailbreakItem, ...]
    problems: tuple[str, ...]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all requests and their categories."""
        return sha256([[i.id, i.system_prompt, i.question, i.category] for i in self.items + self.plain])


@dataclass(frozen=True, slots=True)
class _Row:
    question_id: str
    system_prompt: str
    question: str
    category: str
    persona: str


class _Malformed(Exception):  # noqa: N818 - never leaves this module
    """A row cannot be used; the text says why."""


def load_jailbreak_set(
    source: str | Path | None = None,
    *,
    personas: str | Path | Sequence[Persona] | None = None,
    limit: int | None = None,
) -> JailbreakSet:
    """Load a set of persona jailbreaks (paper, section 3).

    A source has a row for each pair, with the columns ``system_prompt``, ``question`` and ``category``, and
    optionally ``persona`` (its name), ``id`` and ``context`` (put before the question). Other accepted names,
    whatever their case and with or without ``_``, are: system, system_message, persona_prompt; user_prompt,
    prompt, request, goal, forbidden_prompt, behavior; harm_category, semantic_category, topic; persona_name,
    persona_id; context_string; item_id, question_id, behavior_id. A row with an empty system prompt is a
    question without a persona. Without a column of categories, all rows have the category ``all``.

    A source of questions alone is crossed with personas: the published CSV files of StrongREJECT (category,
    source, forbidden_prompt) and HarmBench (Behavior, SemanticCategory, ContextString, BehaviorID and
    others), and any other for which ``personas`` are named.

    Args:
        source: None for the built-in mild set of 120 pairs; a .csv, .json, .jsonl, .ndjson or .parquet file;
            or ``hub:owner/name``, optionally followed by ``:split``.
        personas: Personas to cross questions with: a YAML file (see `load_personas`), "builtin", or personas.
            None takes the built-in five, for the built-in set and the published files only.
        limit: Maximum number of pairs, taken from the balanced order; None for all.

    Raises:
        CorpusError: If the source cannot be read, lacks a column, or has no usable pair.
        EvaluationError: If a hub dataset is named and ``datasets`` is not installed.
        UsageError: If the limit is below 1, no persona is given, two personas share a name, or personas are
            given for a set that has its own.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", hint="give a number from 1, or None for all pairs")
    if source is None:
        data = builtin_data()
        rows = [
            _Row(f"{category}_{number}", "", question, category, "")
            for category, questions in data.categories.items()
            for number, question in enumerate(questions, start=1)
        ]
        return _built(_cross(rows, personas), [], [], BUILTIN, limit)
    needs = "a row needs a question, and a system_prompt unless personas are crossed with it"
    read = _read(source, personas is not None, needs)
    if read.questions_only:
        return _built(_cross(read.rows, personas), [], read.problems, str(source), limit)
    with_persona = [row for row in read.rows if row.system_prompt]
    if not with_persona:
        raise CorpusError(
            f"{source}: the system prompt is empty in all {len(read.rows)} rows",
            hint="fill it in, or leave the column out and cross the questions with --personas builtin",
        )
    alone = [row for row in read.rows if not row.system_prompt]
    # Personas take turns within a category, and categories take turns, so that a limit keeps the proportions.
    turns = by_turns(with_persona, [row.persona for row in with_persona])
    ordered = by_turns(turns, [row.category for row in turns])
    return _built(ordered, alone, read.problems, str(source), limit)


def load_harmful_questions(source: str | Path | None = None, *, limit: int | None = None) -> JailbreakSet:
    """Load the questions of a set, each once and without a persona, for the evaluation of drift and harm.

    Args:
        source: Source, as for `load_jailbreak_set`; system prompts in it are ignored, and may be missing.
        limit: Maximum number of questions, with categories in turn; None for all.

    Returns:
        Set whose ``items`` are empty and whose ``plain`` are the questions.

    Raises:
        CorpusError: If the source cannot be read, has no column of questions, or has no usable row.
        EvaluationError: If a hub dataset is named and ``datasets`` is not installed.
        UsageError: If the limit is below 1.
    """
    if source is None:
        return _questions_alone(load_jailbreak_set().plain, (), BUILTIN, limit)
    read = _read(source, None, "a row needs a question")
    found = _built([], read.rows, read.problems, str(source), None)
    return _questions_alone(found.plain, found.problems, found.source, limit)


def _read(source: str | Path, crossed: bool | None, needs: str) -> _Reader:
    """Read all rows of a source.

    Raises:
        CorpusError: If no row is usable; ``needs`` is the hint.
    """
    read = _Reader(str(source), crossed)
    for record in read_records(source):
        read.add(record)
    if not read.rows:
        first = f", the first at {read.problems[0]}" if read.problems else ""
        raise CorpusError(f"{source}: has no usable row ({len(read.problems)} malformed{first})", hint=needs)
    return read


def _questions_alone(
    plain: Sequence[JailbreakItem], problems: tuple[str, ...], source: str, limit: int | None
) -> JailbreakSet:
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", hint="give a number from 1, or None for all questions")
    ordered = by_turns(plain, [item.category for item in plain])
    return JailbreakSet((), tuple(ordered[:limit]), problems, source)


def _cross(rows: list[_Row], personas: str | Path | Sequence[Persona] | None) -> list[_Row]:
    chosen = load_personas(personas) if personas is None or isinstance(personas, (str, Path)) else personas
    if not chosen:
        raise UsageError("personas is empty", hint="give at least one, or None for the built-in ones")
    names = [persona.name for persona in chosen]
    if len(set(names)) < len(names):
        raise UsageError(f"two personas share a name: {', '.join(names)}", hint="name each of them otherwise")
    ordered = by_turns(rows, [row.category for row in rows])
    return [
        _Row(row.question_id, persona.system_prompt, row.question, row.category, persona.name)
        for row, persona in crossed(ordered, chosen)
    ]


def _built(
    ordered: list[_Row], alone: list[_Row], problems: list[str], source: str, limit: int | None
) -> JailbreakSet:
    """Return the set of these pairs up to the limit, with their questions and those of ``alone`` as plain."""
    taken = ordered[:limit]
    items = [
        JailbreakItem(f"{r.question_id}/{r.persona}", r.system_prompt, r.question, r.category, r.persona)
        for r in taken
    ]
    plain: dict[str, JailbreakItem] = {}
    for row in [*taken, *(alone if limit is None else [])]:
        item = JailbreakItem(f"{row.question_id}/{_NONE}", "", row.question, row.category, "")
        plain.setdefault(row.question, item)
    return JailbreakSet(tuple(items), tuple(plain.values()), tuple(problems), source)


class _Reader:
    """Collect the usable rows of a source, and the problems of the others."""

    def __init__(self, source: str, personas_named: bool | None) -> None:
        """Start empty; the first row that can be read determines the columns.

        ``personas_named`` is None if only the questions are wanted.
        """
        self._source = source
        self._personas_named = personas_named
        self._columns: dict[str, str] = {}
        self._personas: dict[str, str] = {}
        self._questions: dict[str, str] = {}
        self._question_of: dict[str, str] = {}
        self._pairs: dict[tuple[str, str], str] = {}
        self._places: dict[str, str] = {}
        self.rows: list[_Row] = []
        self.problems: list[str] = []

    @property
    def questions_only(self) -> bool:
        """Whether the source has no system prompts."""
        return "system_prompt" not in self._columns

    def add(self, record: Record) -> None:
        """Add a row, or note why it cannot be used.

        Raises:
            CorpusError: If the columns are not those of a set.
            UsageError: If personas are given for a set that has its own.
        """
        try:
            self.rows.append(self._row(record))
        except _Malformed as error:
            self.problems.append(f"{record.where}: {error}")

    def _row(self, record: Record) -> _Row:
        if record.problem:
            raise _Malformed(record.problem)
        row = record.value
        if not isinstance(row, Mapping):
            raise _Malformed(f"{short(row)} is no row with columns")
        value = cast("Mapping[object, object]", row)
        if not self._columns:
            self._columns = self._understand([str(name) for name in value])
        question = self._cell(value, "question", filled=True)
        context = self._cell(value, "context")
        question = f"{context}\n\n{question}" if context else question
        system_prompt = self._cell(value, "system_prompt")
        category = self._cell(value, "category", filled=True) if "category" in self._columns else _NO_CATEGORY
        persona = self._cell(value, "persona")
        if system_prompt and not persona:
            persona = self._personas.setdefault(system_prompt, f"p{len(self._personas) + 1}")
        given = self._cell(value, "id")
        question_id = given or self._questions.setdefault(question, f"q{len(self._questions) + 1}")
        if self._question_of.get(question_id, question) != question:
            raise _Malformed(f"the id {question_id!r} is that of another question")
        pair = (system_prompt, question)
        if pair in self._pairs:
            raise _Malformed(f"repeats {self._pairs[pair]}")
        if system_prompt and self._places.get(place := f"{question_id}/{persona}"):
            raise _Malformed(f"its id and persona ({place}) are those of {self._places[place]}")
        self._question_of[question_id] = question
        self._pairs[pair] = self._places[f"{question_id}/{persona}"] = record.where
        return _Row(question_id, system_prompt, question, category, persona if system_prompt else "")

    def _cell(self, value: Mapping[object, object], field: str, *, filled: bool = False) -> str:
        column = self._columns.get(field)
        cell = value.get(column) if column is not None else None
        if field == "id" and isinstance(cell, int):
            cell = str(cell)
        if cell is None:
            cell = ""
        if not isinstance(cell, str):
            raise _Malformed(f"{column} is {short(cell)}, not text")
        if filled and not cell.strip():
            raise _Malformed(f"{column} is empty")
        return cell.strip()

    def _understand(self, columns: list[str]) -> dict[str, str]:
        """Return the column of each field."""
        plain = {"".join(c for c in name.lower() if c not in " _-"): name for name in columns}
        found = {
            field: plain[alias]
            for field, aliases in _ALIASES.items()
            if (alias := next((name for name in aliases if name in plain), None)) is not None
        }
        if "question" not in found:
            raise CorpusError(
                f"{self._source}: has the columns {', '.join(columns)}, and none is the question",
                hint="name the columns system_prompt, question and category",
            )
        if "system_prompt" in found and self._personas_named:
            raise UsageError(
                f"{self._source}: has system prompts of its own (column {found['system_prompt']!r})",
                hint="leave --personas out, or remove that column to cross the questions with them",
            )
        published = any(names <= set(plain) for names in _PUBLISHED)
        if "system_prompt" not in found and self._personas_named is False and not published:
            raise CorpusError(
                f"{self._source}: has the columns {', '.join(columns)}, and none is the system prompt",
                hint="name it system_prompt, or cross the questions with personas by --personas builtin",
            )
        return found
