"""Conversion of arguments that may be a name, a folder, or an object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from personascope import sharing
from personascope.corpus import Corpus, load_corpus
from personascope.errors import UsageError
from personascope.interop import open_map as open_map_or_release
from personascope.interventions import Plan
from personascope.sharing import Kind
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


MAPS: tuple[Kind, ...] = ("run", "release")
"""Kinds of shared things that hold a map, or vectors in place of one."""


def as_local(path: Path | str, kinds: tuple[Kind, ...] = MAPS, tell: Tell = quiet) -> Path:
    """Return a local path; of ``hub:owner/name[:folder][@revision]``, that of a checked copy in the cache.

    Every function that takes the path of a map, plan or monitor resolves it here.

    Args:
        path: Path, or address on the hub.
        kinds: Kinds of shared things that are expected.
        tell: Callback for status messages.

    Raises:
        UsageError: If the address is malformed, or what lies there is of another kind.
        SharingError: If it cannot be fetched, or is damaged.
    """
    address = sharing.hub_address(path)
    return Path(path) if address is None else sharing.local_copy(address, kinds, tell=tell)


def open_map(folder: Path | str, tell: Tell = quiet) -> PersonaMap:
    """Open a map, or an imported release in place of one, and report what the release lacks.

    Args:
        folder: Run or map folder, imported release, or address on the hub.
        tell: Callback for status messages.

    Raises:
        StoreError: If the folder holds neither, or it is damaged.
        SharingError: If it cannot be fetched from the hub.
    """
    persona_map = open_map_or_release(as_local(folder, MAPS, tell))
    if persona_map.lacking:
        tell(f"{folder} is an imported release: {persona_map.lacking}")
    return persona_map


def open_plan(plan: Plan | Path | str) -> Plan:
    """Return the given plan, or read it from a folder or the hub.

    Raises:
        PersonascopeError: If the folder holds no plan, or the plan is damaged or cannot be fetched.
    """
    return plan if isinstance(plan, Plan) else Plan.load(as_local(plan, ("plan",)))


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
        plan = open_plan(folder)
        name = plan.name or Path(folder).name
        if name in plans:
            raise UsageError(f"two plans are called {name!r}", hint="give each once, or rename one")
        plans[name] = plan
    return plans
