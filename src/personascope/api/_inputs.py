"""Conversion of arguments that may be a name, a folder, or an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from personascope.corpus import Corpus, load_corpus
from personascope.errors import UsageError
from personascope.interop import open_map as open_map_or_release
from personascope.interventions import Plan
from personascope.space import PersonaMap

Tell = Callable[[str], None]
"""Callback for status messages: slow steps before they start, and items that are left out."""


def quiet(text: str) -> None:
    """Ignore a status message."""
    del text


def as_folder(out: Path | str | None, default: Path) -> Path:
    """Return a given path, or the default one."""
    return default if out is None else Path(out)


def as_corpus(corpus: Corpus | Path | str | None) -> Corpus:
    """Return the given corpus, or read it from a folder; None gives the built-in one."""
    return corpus if isinstance(corpus, Corpus) else load_corpus(corpus)


def open_map(folder: Path | str, tell: Tell = quiet) -> PersonaMap:
    """Open a map, or an imported release in place of one, and report what the release lacks.

    Raises:
        StoreError: If the folder holds neither, or it is damaged.
    """
    persona_map = open_map_or_release(folder)
    if persona_map.lacking:
        tell(f"{folder} is an imported release: {persona_map.lacking}")
    return persona_map


def open_plan(plan: Plan | Path | str) -> Plan:
    """Return the given plan, or read it from a folder.

    Raises:
        PersonascopeError: If the folder holds no plan, or the plan is damaged.
    """
    return plan if isinstance(plan, Plan) else Plan.load(plan)


def as_plan(plan: Plan | Path | str | None) -> Plan | None:
    """Return the given plan, or read it from a folder; None stays None."""
    return None if plan is None else open_plan(plan)


def load_plans(folders: Sequence[Path | str]) -> dict[str, Plan]:
    """Read plans from folders; return name -> plan, with the folder's name for a plan without one.

    Raises:
        PersonascopeError: If a plan cannot be read.
        UsageError: If two plans have the same name.
    """
    plans: dict[str, Plan] = {}
    for folder in folders:
        plan = Plan.load(folder)
        name = plan.name or Path(folder).name
        if name in plans:
            raise UsageError(f"two plans are called {name!r}", hint="give each once, or rename one")
        plans[name] = plan
    return plans
