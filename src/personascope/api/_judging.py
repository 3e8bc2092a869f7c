"""The judge that is asked for: checked at once, and made when something is to be judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personascope import judge as judges
from personascope.api._inputs import Tell, quiet
from personascope.errors import UsageError
from personascope.judge import Judge
from personascope.models import EMBEDDED


@dataclass(frozen=True, slots=True)
class JudgeChoice:
    """A judge that is named, checked and not yet made; use ``JudgeChoice.read``.

    Attributes:
        spec: The judge, as `parse_judge` takes it.
        fallback: The second judge, or None.
        options: Options of the first.
        fallback_options: Options of the second.
    """

    spec: str
    fallback: str | None
    options: Mapping[str, Any]
    fallback_options: Mapping[str, Any]

    @classmethod
    def read(
        cls,
        spec: str,
        fallback: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        fallback_headers: Mapping[str, str] | None = None,
        price: tuple[float, float] | None = None,
        fallback_price: tuple[float, float] | None = None,
        max_cost: float | None = None,
    ) -> JudgeChoice:
        """Check a judge, and a second one that is asked for what the first cannot label.

        Args:
            spec: The judge, as `parse_judge` takes it.
            fallback: The second judge, likewise.
            headers: Header -> environment variable with its value, for the judge's server (`read_headers`).
            fallback_headers: The same for the second judge's.
            price: Price of a million tokens sent and received, of the judge's server.
            fallback_price: The same of the second judge's.
            max_cost: Stop judging when a judge has cost this much; needs its price.

        Raises:
            UsageError: If one names no judge, or an option does not belong to its judge.
        """
        second = fallback is not None and "openai:" in fallback
        # A limit is for what costs something; where nothing does, the first judge refuses it.
        first = "openai:" in spec or not second
        chosen = cls(
            spec,
            fallback,
            _options(headers, price, max_cost if first else None),
            _options(fallback_headers, fallback_price, max_cost if second else None),
        )
        judges.check_judge(
            spec, fallback=fallback, fallback_options=chosen.fallback_options, **chosen.options
        )
        return chosen

    def open(self, tell: Tell = quiet) -> Judge | None:
        """Make the judge, and tell where that takes its time; None for "none".

        Raises:
            JudgeError: If the judge cannot work.
            ModelError: If a local model cannot be loaded.
        """
        for spec in (self.spec, self.fallback or ""):
            if "local:" in spec:
                tell(f"loading the judge {spec} ...")
        return judges.parse_judge(
            self.spec, fallback=self.fallback, fallback_options=self.fallback_options, **self.options
        )


def read_headers(given: Sequence[str]) -> dict[str, str]:
    """Read headers of the form NAME=VARIABLE into name -> environment variable.

    Raises:
        UsageError: If one is of another form.
    """
    return dict(judges.parse_header(text) for text in given)


def default_judge(model: str) -> str:
    """Return the judge of a map's responses where none is named: rules, for an embedded model.

    Raises:
        UsageError: If the model is another, whose responses need a judge that is chosen.
    """
    if model not in EMBEDDED:
        raise UsageError(
            f"no judge was named for {model}",
            hint="add --judge openai:MODEL@BASE_URL, --judge local:MODEL, --judge rules or --judge none",
        )
    return "rules"


def choose_judge(judge: Judge | JudgeChoice | str | None) -> Judge | JudgeChoice | None:
    """Return a judge that is given or chosen; a specification is checked, and its judge not made yet.

    Raises:
        UsageError: If a specification names no judge.
    """
    return JudgeChoice.read(judge) if isinstance(judge, str) else judge


def as_judge(judge: Judge | JudgeChoice | str | None, tell: Tell = quiet) -> Judge | None:
    """Return a judge that is given, or make the one that is chosen or named.

    Raises:
        UsageError: If a specification names no judge.
        JudgeError: If the judge cannot work.
        ModelError: If a local model cannot be loaded.
    """
    chosen = choose_judge(judge)
    return chosen.open(tell) if isinstance(chosen, JudgeChoice) else chosen


def _options(
    headers: Mapping[str, str] | None, price: tuple[float, float] | None, max_cost: float | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if headers:
        found["headers"] = headers
    if price is not None:
        found["price_in"], found["price_out"] = price
    if max_cost is not None:
        found["max_cost"] = max_cost
    return found
