"""What a caller may give as a name, a folder, or the thing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from personascope.corpus import Corpus, load_corpus
from personascope.errors import UsageError
from personascope.interop import open_map as open_map_or_release
from personascope.interventions import Plan
from personascope.space import PersonaMap

Tell = Callable[[str], None]
"""Called with a line before something takes its time, and with what is left out."""


def quiet(text: str) -> None:
    """Say nothing."""
    del text


def as_corpus(corpus: Corpus | Path | str | None) -> Corpus:
    """Return a corpus that is given, or read its folder; the built-in one for None."""
    return corpus if isinstance(corpus, Corpus) else load_corpus(corpus)


def open_map(folder: Path | str, tell: Tell = quiet) -> PersonaMap:
    """Open a map, or an imported release in its place, and tell what the release lacks.

    Raises:
        StoreError: If there is neither, or it is damaged.
    """
    persona_map = open_map_or_release(folder)
    if persona_map.lacking:
        tell(f"{folder} is an imported release: {persona_map.lacking}")
    return persona_map


def open_plan(plan: Plan | Path | str) -> Plan:
    """Return a plan that is given, or read its folder.

    Raises:
        PersonascopeError: If the folder holds no plan, or it is damaged.
    """
    return plan if isinstance(plan, Plan) else Plan.load(plan)


def as_plan(plan: Plan | Path | str | None) -> Plan | None:
    """Return a plan that is given, or read its folder; None for none."""
    return None if plan is None else open_plan(plan)


def load_plans(folders: Sequence[Path | str]) -> dict[str, Plan]:
    """Read plans by name: each by its own, or by its folder's where it has none.

    Raises:
        PersonascopeError: If a plan cannot be read.
        UsageError: If two have one name.
    """
    plans: dict[str, Plan] = {}
    for folder in folders:
        plan = Plan.load(folder)
        name = plan.name or Path(folder).name
        if name in plans:
            raise UsageError(f"two plans are called {name!r}", hint="give each once, or rename one")
        plans[name] = plan
    return plans
