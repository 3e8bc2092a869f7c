"""Choice of a judge: checked immediately, and created only when it is needed."""

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
    """A checked judge specification whose judge is not created yet; use ``JudgeChoice.read``.

    Attributes:
        spec: Judge specification, as in `parse_judge`.
        fallback: Specification of the second judge, or None.
        options: Options of the first judge.
        fallback_options: Options of the second judge.
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
        """Check a judge specification, and optionally a second one for what the first cannot label.

        Args:
            spec: Judge specification, as in `parse_judge`.
            fallback: Specification of the second judge.
            headers: Header -> environment variable with its value, for the judge's server (`read_headers`).
            fallback_headers: Header -> environment variable with its value, for the second judge's server.
            price: Price of a million tokens sent and received, for the judge's server.
            fallback_price: Price of a million tokens sent and received, for the second judge's server.
            max_cost: Cost at which a judge stops; needs its price.

        Raises:
            UsageError: If a specification names no judge, or an option does not belong to its judge.
        """
        second = fallback is not None and "openai:" in fallback
        # The limit applies to judges that cost something. If none does, pass it to the first, which refuses
        # it.
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
        """Create the judge, after a status message if a model is loaded; return None for "none".

        Raises:
            JudgeError: If the judge cannot be used.
            ModelError: If a local model cannot be loaded.
        """
        for spec in (self.spec, self.fallback or ""):
            if "local:" in spec:
                tell(f"loading the judge {spec} ...")
        return judges.parse_judge(
            self.spec, fallback=self.fallback, fallback_options=self.fallback_options, **self.options
        )


def read_headers(given: Sequence[str]) -> dict[str, str]:
    """Parse headers of the form NAME=VARIABLE into name -> environment variable.

    Raises:
        UsageError: If a header is of another form.
    """
    return dict(judges.parse_header(text) for text in given)


def default_judge(model: str) -> str:
    """Return the default judge of a map's responses: "rules", for embedded models only.

    Raises:
        UsageError: If the model is not embedded, so that the user must choose a judge.
    """
    if model not in EMBEDDED:
        raise UsageError(
            f"no judge was named for {model}",
            hint="add --judge openai:MODEL@BASE_URL, --judge local:MODEL, --judge rules or --judge none",
        )
    return "rules"


def choose_judge(judge: Judge | JudgeChoice | str | None) -> Judge | JudgeChoice | None:
    """Return a judge or choice unchanged; check a specification and return its choice.

    Raises:
        UsageError: If a specification names no judge.
    """
    return JudgeChoice.read(judge) if isinstance(judge, str) else judge


def as_judge(judge: Judge | JudgeChoice | str | None, tell: Tell = quiet) -> Judge | None:
    """Return a judge unchanged, or create it from a choice or a specification.

    Raises:
        UsageError: If a specification names no judge.
        JudgeError: If the judge cannot be used.
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
