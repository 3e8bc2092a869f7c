"""Define the errors that personascope raises on purpose.

Every message names what is wrong, the value it had, and a remedy. The command line prints the message alone
(no traceback) and exits with ``exit_code``.
"""

from __future__ import annotations


class PersonascopeError(Exception):
    """Base of every expected failure.

    Args:
        message: Message that says what is wrong, with the offending value in it.
        hint: Remedy for the reader in one sentence, printed on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store message and hint separately, so that each interface can lay them out in its own way."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, then the hint on a line of its own."""
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class UsageError(PersonascopeError):
    """The caller asked for something that does not exist or does not fit together."""

    exit_code = 2


class CorpusError(PersonascopeError):
    """A corpus file is missing, malformed, or breaks the schema."""


class ModelError(PersonascopeError):
    """A model cannot be found, read, converted, or does not have the structure that is needed."""


class ChatError(PersonascopeError):
    """A conversation cannot be rendered with the model's chat template, or its spans not derived."""


class InterventionError(PersonascopeError):
    """An operation or a plan is malformed, contradicts itself, or belongs to another model."""


class EngineError(PersonascopeError):
    """An engine cannot honour a request. It never runs the request without the intervention instead."""


class JudgeError(PersonascopeError):
    """A judge cannot work at all (bad address, exhausted quota, spent budget)."""


class StoreError(PersonascopeError):
    """A run folder or a map is damaged, belongs to another run, or cannot be written."""


class SpaceError(PersonascopeError):
    """There is too little data for the statistic that was asked for."""


class EvaluationError(PersonascopeError):
    """An evaluation cannot run on what it was given, or lacks a package that it needs."""


class InteropError(PersonascopeError):
    """A file of another project is damaged, unsafe, or not of the format that it claims."""


class DynamicsError(PersonascopeError):
    """A conversation could not be simulated, followed or analysed."""


class SharingError(PersonascopeError):
    """What is shared cannot be sent or fetched, is damaged, or is not what its record says."""
