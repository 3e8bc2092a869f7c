"""Status messages of slow steps, on standard error."""

from __future__ import annotations

from personascope.runs import SafeConsole


def say(text: str) -> None:
    """Print a status message on standard error, with control characters escaped."""
    SafeConsole(stderr=True, highlight=False).print(text, soft_wrap=True, markup=False)
