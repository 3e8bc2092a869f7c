"""Load personas, and cross questions with them in a balanced order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from personascope.corpus._schema import Filled, Name
from personascope.corpus.datasets._data import BUILTIN, DATA, read_form, refuse_repeats


@dataclass(frozen=True, slots=True)
class Persona:
    """A character that a system prompt gives to the model.

    Attributes:
        name: Short name for ids and tables.
        system_prompt: System prompt that gives the character.
    """

    name: str
    system_prompt: str


class _PersonaData(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name
    system_prompt: Filled


class _PersonasData(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    personas: list[_PersonaData] = Field(min_length=1)


class BuiltinData(_PersonasData):
    """Built-in set: personas, and questions by category."""

    categories: dict[Name, list[Filled]]


def builtin_data() -> BuiltinData:
    """Read the file of the built-in set."""
    return read_form(BuiltinData, DATA / "jailbreak.yaml")


def load_personas(path: str | Path | None = None) -> tuple[Persona, ...]:
    """Load personas.

    Args:
        path: YAML file ``personas: [{name, system_prompt}, ...]``. None or "builtin" takes the built-in five,
            which are mild: they go along with what is unkind or against a rule.

    Raises:
        CorpusError: If the file cannot be read or is malformed.
    """
    if path is None or path == BUILTIN:
        found, file = builtin_data().personas, DATA / "jailbreak.yaml"
    else:
        file = Path(path)
        found = read_form(_PersonasData, file).personas
    refuse_repeats([persona.name for persona in found], "persona", file)
    return tuple(Persona(persona.name, persona.system_prompt) for persona in found)


Item = TypeVar("Item")


def by_turns(items: Sequence[Item], groups: Sequence[str]) -> list[Item]:
    """Return the items with their groups in turn: the first of each group, then the second of each.

    Any beginning of the list then has about as many of every group.
    """
    seen: dict[str, int] = {}
    order: dict[str, int] = {}
    keys: list[tuple[int, int]] = []
    for group in groups:
        order.setdefault(group, len(order))
        seen[group] = seen.get(group, 0) + 1
        keys.append((seen[group], order[group]))
    return [items[index] for index in sorted(range(len(items)), key=lambda index: keys[index])]


def crossed(questions: Sequence[Item], personas: Sequence[Persona]) -> list[tuple[Item, Persona]]:
    """Return every pair of a question and a persona.

    The first ``len(questions)`` pairs hold each question once and the personas in turn; the next as many hold
    each question with another persona, and so on. Any beginning of the list is therefore balanced.
    """
    count = len(personas)
    return [
        (question, personas[(_digit_sum(index, count) + shift) % count])
        for shift in range(count)
        for index, question in enumerate(questions)
    ]


def _digit_sum(number: int, base: int) -> int:
    """Return the sum of a number's digits in a base.

    Modulo the base it takes every value once in each block of ``base`` numbers, as the number itself does.
    But it is not in step with categories that take turns: by the number itself, each of five categories would
    meet only one of five personas.
    """
    total = 0
    while number and base > 1:
        number, digit = divmod(number, base)
        total += digit
    return total
