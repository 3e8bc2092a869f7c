"""The harness model's tokenizer, chat format and length; and its loading from command-line arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from personascope.engines import Engine
from personascope.errors import UsageError
from personascope.evals._open_engine import LOADING, open_engine, open_plan
from personascope.interventions import CapStats, Plan

_MODEL = ("max_length", "max_gen_toks", "seed")


@dataclass(frozen=True, slots=True)
class Context:
    """Tokenizer, chat format and context length of an engine's model.

    Attributes:
        tokenizer: Tokenizer of the model.
        chat: Chat format of the model; None for a base model.
        max_length: Maximum context length, in tokens.
        eot_token_id: Id of the end-of-text token.
        prefix_token_id: Id of bos, or else of the end-of-text token.
        prefix_text: Text of the prefix token.
    """

    tokenizer: Any
    chat: Any
    max_length: int
    eot_token_id: int
    prefix_token_id: int
    prefix_text: str

    @classmethod
    def of(cls, engine: Engine, *, tokenizer: Any, chat: Any, max_length: int | None) -> Context:
        """Use the given values, and take the others from the engine's model.

        Raises:
            UsageError: If the tokenizer or length is not given and cannot be found.
        """
        loaded = getattr(engine, "files", None)
        if tokenizer is None:
            tokenizer = getattr(loaded, "tokenizer", None)
        if tokenizer is None or tokenizer.eos_token_id is None:
            raise UsageError(
                f"the engine {engine.info.engine} shows no tokenizer with an end-of-text token",
                hint="pass tokenizer=... to PersonascopeLM",
            )
        if max_length is None:
            max_length = engine.info.context or _length_of(tokenizer)
        if max_length is None or max_length < 2:
            raise UsageError(
                f"how much {engine.info.model_id} reads is not known ({max_length})",
                hint="pass max_length=..., in tokens",
            )
        eot = int(tokenizer.eos_token_id)
        prefix = eot if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
        return cls(
            tokenizer=tokenizer,
            chat=getattr(engine, "chat", None) if chat is None else chat,
            max_length=int(max_length),
            eot_token_id=eot,
            prefix_token_id=prefix,
            prefix_text=str(tokenizer.decode([prefix])),
        )


def _length_of(tokenizer: Any) -> int | None:
    length = getattr(tokenizer, "model_max_length", None)
    # Transformers uses a huge number (1e30) if the length is unknown.
    return int(length) if length and length < 10**12 else None


@dataclass(slots=True)
class Firing:
    """Cap statistics of a plan, summed over requests.

    Attributes:
        requests: Number of requests with statistics.
        tokens: Number of tokens on which the plan acted.
        capped: Whether the plan has a cap.
        capped_tokens: Number of tokens on which a cap fired.
        max_moved: Largest distance by which a cap moved a token.
    """

    requests: int = 0
    tokens: int = 0
    capped: bool = False
    capped_tokens: int = 0
    max_moved: float = 0.0

    def add(self, stats: CapStats | None) -> None:
        """Add one request's statistics; ignore None."""
        if stats is not None:
            self.requests += 1
            self.tokens += stats.tokens
            self.capped |= bool(stats.fired)
            self.capped_tokens += stats.capped_tokens
            self.max_moved = max(self.max_moved, stats.max_moved)

    def summary(self) -> dict[str, Any]:
        """Return the sums as JSON values; the firing share is None for a plan without a cap."""
        return {
            "plan_requests": self.requests,
            "plan_tokens": self.tokens,
            "capped_tokens": self.capped_tokens,
            "firing_share": self.capped_tokens / self.tokens if self.capped and self.tokens else None,
            "max_moved": self.max_moved,
        }


def open_from_args(args: dict[str, Any], extra: dict[str, Any]) -> tuple[Engine, Plan | None, dict[str, Any]]:
    """Load the engine and plan that command-line arguments name.

    Args:
        args: The user's arguments, as in `PersonascopeLM.create_from_arg_obj`.
        extra: The harness's own ``batch_size``, ``max_batch_size`` and ``device``. The harness passes a batch
            size of 1 if the user gave none, so 1 and "auto" keep the engine's default.

    Returns:
        The engine, the plan (or None), and keyword arguments for `PersonascopeLM`.

    Raises:
        UsageError: If an argument is unknown or contradicts another, or no model is named.
    """
    known = ("model", "plan", "chat", *LOADING, *_MODEL)
    unknown = sorted(set(args) - set(known))
    if unknown or not args.get("model"):
        raise UsageError(
            f"the model arguments {', '.join(unknown)} are unknown" if unknown else "no model is named",
            hint=f"--model_args model=smollm2-135m,plan=runs/plan; known are {', '.join(known)}",
        )
    loading = {name: args.get(name) for name in LOADING}
    device = extra.get("device")
    # The harness passes the first GPU if the user named no device, even on a machine without a GPU.
    if loading["device"] is None and (torch.cuda.is_available() or not str(device).startswith("cuda")):
        loading["device"] = device
    if loading["max_batch"] is None:
        loading["max_batch"] = _batch_size(extra)
    engine = open_engine(str(args["model"]), loading, chat=args.get("chat", "auto"))
    plan = open_plan(args.get("plan"), engine)
    return engine, plan, {name: args[name] for name in _MODEL if args.get(name) is not None}


def _batch_size(extra: dict[str, Any]) -> int | None:
    size = extra.get("batch_size")
    if str(size).startswith("auto"):
        size = extra.get("max_batch_size")
    if size is not None and not str(size).isdigit():
        raise UsageError(f"the batch size is {size!r}", hint="give a number, or auto")
    return int(size) if size is not None and int(size) > 1 else None
