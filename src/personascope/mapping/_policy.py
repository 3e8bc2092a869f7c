"""The rule of an adaptive design: when it stops, and what it asks next.

It stops when the lower bound of a look reaches what was asked for in `LOOKS` looks running, so that no single
lucky look stops it (benchmarks/adaptive_stopping.md). Otherwise the kind of round is taken that is expected
to take most of what is missing, for each rollout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personascope.mapping._rounds import Kind, Round, Rounds
from personascope.mapping._until import Until, written
from personascope.space import Z95, CurvePoint, Precision

LOOKS = 2
"""Number of looks running that must agree."""
ROLE_MARGIN = 1.25
"""Factor on the half-widths of role positions, for what is not known of them."""


def met(until: Until, points: Sequence[CurvePoint]) -> str:
    """Return the precision that the last looks have reached, such as "axis=0.95"; "" if none.

    Args:
        until: What was asked for.
        points: The looks so far.
    """
    last = points[-LOOKS:]
    if len(last) < LOOKS:
        return ""
    lows = [one.split_half_low for one in last]
    if until.axis is not None and all(low is not None and low >= until.axis for low in lows):
        return written("axis", until.axis)
    widths = [one.widest for one in last]
    if until.roles is not None and all(
        wide is not None and wide * ROLE_MARGIN <= until.roles for wide in widths
    ):
        return written("roles", until.roles)
    return ""


def next_round(until: Until, rounds: Rounds, look: Precision | None) -> Round | None:
    """Return what to ask next; None if the design is asked whole."""
    if not len(rounds.asked) or not rounds.asked.any():
        return Round("opening")
    kinds: tuple[Kind, ...] = ("balanced", "default")
    able = [Round(kind) for kind in kinds if rounds.can(kind)]
    if look is None or not until.goals:
        return able[0] if able else None
    wide = _widest(until, rounds, look)
    if wide.roles:
        able.append(wide)
    gains = [_gain(until, rounds, look, one) / rounds.cost(one) for one in able]
    # Of equals the first, so a balanced round before others.
    return able[int(np.argmax(gains))] if able else None


def _widest(until: Until, rounds: Rounds, look: Precision) -> Round:
    """Return a round of the roles whose interval is wider than asked for and that have rollouts left."""
    if until.roles is None:
        return Round("widest")
    wide = {
        name
        for name, half in zip(look.roles, look.half_widths, strict=True)
        if ROLE_MARGIN * half > until.roles
    }
    left = rounds.left - rounds.asked > 0
    chosen = [
        role.name for place, role in enumerate(rounds.design.roles) if role.name in wide and left[place]
    ]
    return Round("widest", tuple(chosen) if len(chosen) < left.sum() else ())


def _gain(until: Until, rounds: Rounds, look: Precision, made: Round) -> float:
    """Return the share of what is missing that a round is expected to take, added up over the goals."""
    named = {role.name: place for place, role in enumerate(rounds.design.roles)}
    asked = np.array([rounds.asked[named[name]] for name in look.roles], np.float64)
    left = np.array([rounds.left[named[name]] for name in look.roles]) - asked > 0
    chosen = left & np.array([made.kind != "widest" or name in set(made.roles) for name in look.roles])
    have = look.responses.astype(np.float64)
    # A role gets as many usable responses from a rollout as before.
    more = np.where(chosen, have / np.maximum(asked, 1), 0.0) * (made.kind != "default")
    each = rounds.of_default
    new = rounds.cost(made) - int(chosen.sum())
    questions = rounds.questions + (0 if made.kind == "default" else max(new, 0) // each)
    level = each + (len(rounds.design.corpus.default_prompts) if made.kind == "default" else 0)
    of_roles = (look.prompt + look.response) / have.sum()
    of_default = look.response / (each * rounds.questions)
    of_questions = max(0.0, look.noise - of_roles - of_default) * rounds.questions
    noise = of_questions / questions + look.response / (level * questions)
    noise += (look.prompt + look.response) / (have.sum() + more.sum())
    remains = noise / max(of_questions / rounds.questions + of_roles + of_default, 1e-300)
    gain = 0.0
    if until.axis is not None:
        gain += 1.0 - remains
    if until.roles is not None:
        variance = np.square(look.half_widths / Z95)
        own = variance - look.axis_part
        after = own * have / (have + more) + look.axis_part * min(remains, 1.0)
        goal = (until.roles / (Z95 * ROLE_MARGIN)) ** 2
        missing = np.maximum(variance - goal, 0.0).sum()
        gain += 1.0 - np.maximum(after - goal, 0.0).sum() / missing if missing > 0 else 0.0
    return float(gain)
