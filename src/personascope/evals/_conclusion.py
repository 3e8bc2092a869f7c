"""What may be called an effect: more than no plan does, and more than every kind of control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personascope.directions import CONTROLS, kind_label
from personascope.stats import AgainstDraws, Difference


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Whether a difference from no plan is called an effect.

    It is one only if its interval excludes 0 and it beats the controls of all kinds (`AgainstDraws.beaten`).
    All must hold, so no correction for the number of kinds is needed.

    Attributes:
        effect: Whether it is called an effect.
        beaten: Kinds of controls that it beats.
        unbeaten: Kinds of controls that it does not beat.
        missing: Kinds of controls that it was not compared with.
        words: The conclusion, for people.
    """

    effect: bool
    beaten: tuple[str, ...]
    unbeaten: tuple[str, ...]
    missing: tuple[str, ...]
    words: str


def conclude(
    plain: Difference | None, against: Mapping[str, AgainstDraws], *, kinds: Sequence[str] = CONTROLS
) -> Conclusion:
    """Decide whether a difference from no plan is called an effect, and say which controls it fails to beat.

    Args:
        plain: Difference from no plan on the same items; None if it is unknown.
        against: Kind -> comparison with the controls of that kind.
        kinds: Kinds that an effect has to beat.
    """
    sign = 0.0 if plain is None else plain.estimate
    differs = plain is not None and (plain.low > 0 or plain.high < 0)
    beaten = tuple(kind for kind in kinds if kind in against and against[kind].beaten(sign))
    unbeaten = tuple(kind for kind in kinds if kind in against and kind not in beaten)
    missing = tuple(kind for kind in kinds if kind not in against)
    return Conclusion(
        differs and not unbeaten and not missing,
        beaten,
        unbeaten,
        missing,
        conclusion_words(beaten, unbeaten, missing) if differs else "no effect: not told from no plan",
    )


def conclusion_words(
    beaten: Sequence[str], unbeaten: Sequence[str], missing: Sequence[str], *, noun: str = "effect"
) -> str:
    """Return a conclusion in words, for something that differs from none.

    Args:
        beaten: Kinds of controls that are beaten.
        unbeaten: Kinds that are not.
        missing: Kinds that were not compared with.
        noun: Noun for what is concluded.
    """
    if unbeaten:
        return f"no {noun} beyond {kinds_listed(unbeaten)} controls"
    if not beaten:
        return f"no {noun} is called: there are no controls"
    if missing:
        return (
            f"no {noun} is called: beyond {kinds_listed(beaten)} controls, "
            f"{kinds_listed(missing)} not compared"
        )
    return f"{noun}, beyond {kinds_listed(beaten)} controls"


def kinds_listed(kinds: Sequence[str]) -> str:
    """Return kinds as people write them: "isotropic, shuffled and role-span"."""
    names = [kind_label(kind) for kind in kinds]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
