"""Chain judges, so that the next one is asked for what the first cannot label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from personascope.errors import UsageError
from personascope.judge._contract import Judge, JudgeItem, JudgeStats, Verdict

THEN = " then "
"""Separator between the judges of a chain, in its name and its specification."""


def continues(judge: str | None, earlier: str | None) -> bool:
    """Return whether a judge keeps the labels of an earlier judge as they are.

    The same judge does, and so does a chain that begins with it.

    Args:
        judge: Name of the present judge; None for none.
        earlier: Name of the judge that made the labels; None for none.
    """
    if judge is None or earlier is None:
        return judge is earlier
    return judge == earlier or judge.startswith(f"{earlier}{THEN}")


class JudgeChain:
    """Ask each judge for the items that the judges before it refused, filtered, or could not label.

    Verdicts carry the name of the judge that gave them. An item that a judge could not score because its
    server was busy or unreachable is not passed on: the same judge may score it later, and server load must
    not decide which judge labels what. A judge that cannot go on ends the chain.

    Args:
        judges: Two or more judges, in the order in which they are asked.

    Raises:
        UsageError: If there are fewer than two judges, or two have the same name.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        """Check and store the judges."""
        names = [judge.name for judge in judges]
        if len(set(names)) < max(len(names), 2):
            raise UsageError(
                f"a chain of the judges {', '.join(names) or 'none'}",
                hint="give two different judges: the second is asked for what the first cannot label",
            )
        self.judges = tuple(judges)

    @property
    def name(self) -> str:
        """Names of the judges, joined by "then"."""
        return self.names[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the chain's beginnings, from its first judge alone to the whole chain."""
        names = [judge.name for judge in self.judges]
        return tuple(THEN.join(names[: place + 1]) for place in range(len(names)))

    @property
    def stats(self) -> JudgeStats:
        """Total statistics of all judges, with those of each judge under ``by_judge``."""
        by_judge = {judge.name: judge.stats for judge in self.judges}
        return replace(sum(by_judge.values(), JudgeStats()), by_judge=by_judge)

    async def score(self, item: JudgeItem) -> Verdict:
        """Score one item by the first judge that can label it.

        Raises:
            JudgeError: If a judge that is asked cannot go on.
        """
        calls = 0
        reasons: list[str] = []
        verdict = Verdict(item.id, None, "", self.name)
        for judge in self.judges:
            verdict = await judge.score(item)
            calls += verdict.calls
            if verdict.score is not None:
                return replace(verdict, calls=calls)
            reasons.append(f"{judge.name}: {verdict.reason}")
            if verdict.passing:
                break
        return replace(verdict, calls=calls, reason="; ".join(reasons))

    async def aclose(self) -> None:
        """Release what every judge holds on the running event loop."""
        for judge in self.judges:
            await judge.aclose()
