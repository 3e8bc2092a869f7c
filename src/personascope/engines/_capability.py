"""One row of the table of what engines can do: a capability, and its support by each engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EngineKey = Literal["transformers", "vllm", "ray", "server"]

ENGINE_TITLES: Mapping[EngineKey, str] = {
    "transformers": "the transformers engine",
    "vllm": "the vllm engine",
    "ray": "the ray engine",
    "server": "personascope serve",
}
"""Columns of the table: three engines, and vLLM's server with the plugin inside."""


@dataclass(frozen=True, slots=True)
class Support:
    """Support of one capability by one engine.

    Attributes:
        level: "yes"; "no"; "as inside" for Ray, whose workers hold one of the other engines; "untried" if
            it is expected to work and no test has run it; "-" if the capability does not apply.
        note: Reason or condition, as the end of a sentence.
        hint: Alternative for the user; empty unless ``level`` is "no".
    """

    level: Literal["yes", "no", "as inside", "untried", "-"]
    note: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Capability:
    """One row of the table.

    Attributes:
        key: Name of the capability in code.
        title: Description as a noun phrase that an error can contain.
        group: Heading of the row's section.
        support: Support by engine.
    """

    key: str
    title: str
    group: str
    support: Mapping[EngineKey, Support]
