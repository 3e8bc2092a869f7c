"""Ways in which a file, or a JSON value in it, may be damaged."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, -(2**70), 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "0", "a" * 5000, "\ud800", "\x00", "\x1b[31m", "../../x", "NaN",
    [], {}, [None], [[]], {"a": 1},
    {"": None}, [1, 2, 3], ["x", "x"], [0.5] * 200,
)  # fmt: skip


def nested(depth: int) -> str:
    """Return JSON that is nested this deep."""
    return "[" * depth + "]" * depth


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return other bytes: flipped, cut, moved, repeated, emptied or put in."""
    if not data:
        return bytes([rng.randrange(256)])
    made = bytearray(data)
    # Headers are where a length or an offset stands: half of the damage is done there.
    at = rng.randrange(min(len(made), 400)) if rng.random() < 0.5 else rng.randrange(len(made))
    end = min(len(made), at + rng.choice((1, 2, 4, 8, 64, 1024)))

    def flip() -> None:
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            place = at if rng.random() < 0.5 else rng.randrange(len(made))
            made[place] ^= 1 << rng.randrange(8)

    def put(*values: int) -> None:
        made[at:end] = bytes(rng.choice(values) for _ in range(end - at))

    kinds: tuple[Callable[[], None], ...] = (
        flip,
        flip,
        flip,
        lambda: put(0),
        lambda: put(255),
        lambda: put(*range(256)),
        lambda: made.__delitem__(slice(at, None)),
        lambda: made.__delitem__(slice(at, end)),
        lambda: made.__setitem__(slice(at, at), made[at:end]),
        lambda: made.extend(made[at:end]),
        lambda: made.__setitem__(slice(at, at), bytes([rng.randrange(256)])),
    )
    rng.choice(kinds)()
    return bytes(made)


def damage_value(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one place in it replaced, removed, renamed, repeated or exchanged."""
    made = copy.deepcopy(value)
    holders: list[Any] = []
    waiting: list[Any] = [made]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list) and one:
            holders.append(one)
            waiting += one.values() if isinstance(one, dict) else one
    if not holders:
        return rng.choice(VALUES)
    holder = rng.choice(holders)
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key, other = rng.choice(keys), rng.choice(keys)
    kind = rng.randrange(6)
    if kind <= 2:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        holder[key], holder[other] = holder[other], holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(("x", "", "\ud800", str(key) + "s"))] = holder.pop(key)
    else:
        holder.append(copy.deepcopy(holder[key]))
    return made


def damage_json(data: bytes, rng: random.Random, *, unseal: tuple[str, ...] = ()) -> bytes:
    """Return a damaged JSON text; now and then without the fields that would give the damage away."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    if rng.random() < 0.02:
        return nested(rng.choice((50, 5000, 200_000))).encode()
    value = damage_value(json.loads(data), rng)
    if isinstance(value, dict) and rng.random() < 0.5:
        value = {key: one for key, one in value.items() if key not in unseal}
    return json.dumps(value).encode()


def damage_lines(data: bytes, rng: random.Random) -> bytes:
    """Return JSON lines with one of them damaged."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = damage_json(lines[at], rng) if lines[at].strip() else b"{"
    return b"\n".join(lines)
