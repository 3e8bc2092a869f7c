"""Mean norms of the residual stream over ordinary chats, which are the unit of steering strengths."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from personascope.chat import Conversation
from personascope.engines import Capture, Engine
from personascope.errors import ChatError, EvaluationError
from personascope.runs import Progress, ProgressCallback, shown
from personascope.text import brief


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Mean norms of a model's residual stream.

    Attributes:
        mean: Mean norm after each block over content tokens, [L].
        chats: Number of chats measured.
        tokens: Number of content tokens. Template tokens and bos are left out: their norms are often a
            hundred times larger and would dominate the mean.
        skipped: Chats that the model's template refused, with the reason of each.
        source: Description of the chats.
    """

    mean: Float64[np.ndarray, "L"]
    chats: int
    tokens: int
    skipped: tuple[str, ...]
    source: str

    def __repr__(self) -> str:
        """Return the fields on one line, arrays by their shape."""
        return brief(self)


def residual_norms(
    engine: Engine,
    chats: Iterable[Conversation],
    *,
    source: str = "",
    limit: int | None = 10_000,
    progress: ProgressCallback | bool = True,
) -> Norms:
    """Measure the mean norm after every block over the content tokens of chats (section 3.2).

    Args:
        engine: Engine of the model.
        chats: Ordinary conversations; the paper takes LMSYS-Chat-1M.
        source: Description of the chats, to record.
        limit: Maximum number of chats; the paper's number by default.
        progress: Whether to show a progress bar, or a callback to call for each chat instead.

    Raises:
        EvaluationError: If no chat could be measured.
    """
    total = np.zeros(engine.info.n_layers, np.float64)
    tokens = used = 0
    skipped: list[str] = []
    most = len(chats) if isinstance(chats, Sized) else 0
    most = most if limit is None else min(most, limit)
    with shown(progress) as tell:
        for number, chat in enumerate(chats):
            if limit is not None and used >= limit:
                break
            if tell is not None:
                tell(Progress("measure norms", number, most))
            try:
                turns = engine.observe(chat, capture=Capture(norms=True))
            except ChatError as error:
                skipped.append(f"chat {number}: {error.message}")
                continue
            used += 1
            for turn in turns:
                if turn.norms is not None and turn.role != "system":
                    total += turn.norms.astype(np.float64) * turn.token_count
                    tokens += turn.token_count
    if not tokens:
        raise EvaluationError(
            f"no chat of {source or 'the set'} could be measured ({len(skipped)} were refused)"
            + (f"; {skipped[0]}" if skipped else ""),
            hint="give chats in which user and assistant alternate, and a model that can render them",
        )
    return Norms(total / tokens, used, tokens, tuple(skipped), source)
