"""Auditor specifications, as the command line gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from personascope import engines
from personascope.dynamics.conversations._auditor import Auditor, ScriptedAuditor
from personascope.dynamics.conversations._auditor_models import LocalAuditor, OpenAIAuditor
from personascope.engines import Engine
from personascope.errors import UsageError
from personascope.judge import Endpoint, split_address

AUDITORS = "scripted, self, local:MODEL, openai:MODEL@BASE_URL"


def check_auditor(spec: str, headers: Mapping[str, str] | None = None) -> None:
    """Check an auditor specification before a model is loaded.

    Args:
        spec: Auditor specification, as in `parse_auditor`.
        headers: Header name -> environment variable, as in `parse_auditor`.

    Raises:
        UsageError: If the specification names no auditor, its server's address cannot be used, or headers are
            given to an auditor that has no server.
    """
    if not re.fullmatch(r"scripted|self|local:.+|openai:.+?@https?://.+", spec.strip()):
        raise UsageError(f"there is no auditor {spec!r}", hint=f"give one of: {AUDITORS}")
    kind, _, rest = spec.strip().partition(":")
    if kind == "openai":
        Endpoint(split_address(rest)[1], who="auditor", headers=headers)
    elif headers:
        raise UsageError(f"the auditor {spec!r} has no server that takes headers")


def parse_auditor(
    spec: str,
    *,
    target: Engine,
    min_turns: int = 2,
    max_batch: int = 128,
    headers: Mapping[str, str] | None = None,
) -> Auditor:
    """Create the auditor that a specification names.

    Args:
        spec: ``scripted`` for the corpus's own messages, offline; ``self`` for the target model itself;
            ``local:MODEL`` for another model in this process; ``openai:MODEL@BASE_URL`` for a server.
        target: Engine of the target model, which ``self`` uses.
        min_turns: Number of turns before an auditor model may end a conversation.
        max_batch: Maximum batch size of a local auditor model.
        headers: For a server: header name -> environment variable that holds its value.

    Raises:
        UsageError: If the specification is none of these, or its server's address cannot be used.
        ModelError: If a local model cannot be loaded.
    """
    check_auditor(spec, headers)
    kind, _, rest = spec.strip().partition(":")
    if spec.strip() == "scripted":
        return ScriptedAuditor()
    if spec.strip() == "self":
        return LocalAuditor(target, min_turns=min_turns)
    if kind == "local":
        return LocalAuditor(engines.load_engine(rest, max_batch=max_batch), min_turns=min_turns)
    name, address = split_address(rest)
    return OpenAIAuditor(name, address, headers=headers, min_turns=min_turns)
