"""Look up the capability table, and build the errors of missing capabilities from it."""

from __future__ import annotations

from personascope.engines._capability import ENGINE_TITLES, EngineKey, Support
from personascope.engines._capability_table import CAPABILITIES
from personascope.errors import EngineError, PersonascopeError

_BY_KEY = {row.key: row for row in CAPABILITIES}


def support(engine: EngineKey, key: str) -> Support:
    """Return an engine's support of a capability.

    Raises:
        KeyError: If there is no such row or column.
    """
    return _BY_KEY[key].support[engine]


def unsupported(
    engine: EngineKey, key: str, subject: str, kind: type[PersonascopeError] = EngineError
) -> PersonascopeError:
    """Return the error of an engine that lacks a capability.

    Args:
        engine: Column of the table.
        key: Row of the table.
        subject: Beginning of the message, such as "request 'a' asks for".
        kind: Class of the error.

    Raises:
        KeyError: If the table does not say "no", so that the error would contradict it.
    """
    found = support(engine, key)
    if found.level != "no":
        raise KeyError(f"{engine} has {key}: {found.level}")
    message = f"{subject} {_BY_KEY[key].title}, which {ENGINE_TITLES[engine]} does not have"
    return kind(f"{message}: {found.note}" if found.note else message, hint=found.hint)
