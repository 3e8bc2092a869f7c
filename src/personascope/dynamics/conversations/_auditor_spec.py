"""Auditors by name, as the command line gives them."""

from __future__ import annotations

import re

from personascope import engines
from personascope.dynamics.conversations._auditor import Auditor, ScriptedAuditor
from personascope.dynamics.conversations._auditor_models import LocalAuditor, OpenAIAuditor
from personascope.engines import Engine
from personascope.errors import UsageError

AUDITORS = "scripted, self, local:MODEL, openai:MODEL@BASE_URL"


def check_auditor(spec: str) -> None:
    """Check a specification before a model is loaded.

    Raises:
        UsageError: If it names no auditor.
    """
    if not re.fullmatch(r"scripted|self|local:.+|openai:.+?@https?://.+", spec.strip()):
        raise UsageError(f"there is no auditor {spec!r}", hint=f"give one of: {AUDITORS}")


def parse_auditor(spec: str, *, target: Engine, min_turns: int = 2, max_batch: int = 128) -> Auditor:
    """Make the auditor that a specification names.

    Args:
        spec: ``scripted`` for the corpus' own messages, offline; ``self`` for the target model itself;
            ``local:MODEL`` for another model in this process; ``openai:MODEL@BASE_URL`` for a server.
        target: The engine that ``self`` plays with.
        min_turns: Exchanges before which a model may not end a conversation.
        max_batch: Messages that a local model writes side by side.

    Raises:
        UsageError: If the specification is none of these.
        DynamicsError: If the library that it needs is not installed.
        ModelError: If a local model cannot be loaded.
    """
    check_auditor(spec)
    kind, _, rest = spec.strip().partition(":")
    if spec.strip() == "scripted":
        return ScriptedAuditor()
    if spec.strip() == "self":
        return LocalAuditor(target, min_turns=min_turns)
    if kind == "local":
        return LocalAuditor(engines.load_engine(rest, max_batch=max_batch), min_turns=min_turns)
    name, _, address = rest.partition("@")
    return OpenAIAuditor(name, address.rstrip("/"), min_turns=min_turns)
