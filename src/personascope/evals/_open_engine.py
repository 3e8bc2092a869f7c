"""Open an engine or a plan from the plain arguments of another program's command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personascope.chat import ChatOptions
from personascope.engines import LocalEngine, load_engine
from personascope.errors import UsageError
from personascope.interventions import Plan

LOADING = (
    "engine",
    "dtype",
    "device",
    "device_map",
    "attn_implementation",
    "trust_remote_code",
    "max_batch",
    "thinking",
)
"""Arguments for `load_engine`, and whether the model thinks before it answers."""

_SWITCH = {"on": True, "off": False, True: True, False: False}  # YAML reads on and off as booleans

CHATS = ("auto", "transcript")
"""Chat formats: the model's own template, or a plain transcript (for a base model)."""


def open_engine(model: str, arguments: Mapping[str, Any], *, chat: str = "auto") -> LocalEngine:
    """Load an engine; arguments that are None are ignored.

    Args:
        model: Model name, as in `personascope.models.resolve`.
        arguments: Arguments named in `LOADING`.
        chat: Chat format, one of `CHATS`.

    Raises:
        UsageError: If the chat format is unknown, or ``thinking`` is neither on nor off.
        ChatError: If thinking is asked for, and the model's template has none.
        ModelError: If the model cannot be loaded.
    """
    if chat not in CHATS:
        raise UsageError(f"chat is {chat!r}", hint=f"give one of {', '.join(CHATS)}")
    given = {name: value for name, value in arguments.items() if value is not None}
    thinking = given.pop("thinking", None)
    if thinking is not None:
        if thinking not in _SWITCH:
            raise UsageError(f"thinking is {thinking!r}", hint="give on or off")
        given["chat_options"] = ChatOptions(thinking=_SWITCH[thinking])
    return load_engine(model, transcript=chat == "transcript", **given)


def open_plan(folder: str | Path | None, engine: LocalEngine) -> Plan | None:
    """Read a plan, if a folder is given, and check that its model is the engine's.

    Raises:
        StoreError: If the folder holds no plan.
        InterventionError: If the plan is of another model.
    """
    if folder is None:
        return None
    plan = Plan.load(folder)
    check_plan(plan, engine)
    return plan


def check_plan(plan: Plan, engine: Any) -> None:
    """Check that a plan's model is the engine's.

    Raises:
        InterventionError: If it is another model; the message names the difference.
    """
    info = engine.info
    plan.check_model(
        model_id=info.model_id,
        revision=info.model_revision,
        n_layers=info.n_layers,
        d_model=info.d_model,
    )
