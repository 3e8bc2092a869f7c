"""Running cases: each in bounded time and memory, ending in a result or in an error of ours."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz.targets import Target
from personascope.errors import PersonascopeError

SECONDS = 20.0
"""Time of a case at most."""
MEMORY = 2**29
"""Bytes by which a case may raise the peak of the process."""


class Hang(BaseException):
    """A case took too long; no reader may catch it."""


@dataclass
class Found:
    """What the cases led to.

    Attributes:
        cases: Cases run.
        outcomes: Error classes, and "read" for those that were read, with their counts.
        wrong: What must not be, a line each, with what repeats it.
    """

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise `Hang` in what takes longer than `SECONDS`."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(call: Callable[[], Any], name: str, found: Found) -> tuple[bool, Any]:
    """Call something, and note what must not be; return whether it ended well, and its result."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found.cases += 1
    done, result = False, None
    try:
        with bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = call()
        done = True
        found.outcomes["read"] += 1
    except PersonascopeError as error:
        found.outcomes[type(error).__name__] += 1
        if not error.message.strip():
            found.wrong.append(f"{name}: an error without a message")
    except Hang:
        found.wrong.append(f"{name}: took more than {SECONDS} s")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        found.wrong.append(
            f"{name}: {type(error).__name__}: {error!s:.200} at {where.filename}:{where.lineno}"
        )
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak
    if taken > MEMORY:
        found.wrong.append(f"{name}: took {taken:,} bytes")
    return done, result


def tree(at: Path) -> dict[str, int]:
    """Return the files below a folder with their sizes."""
    return {str(path.relative_to(at)): path.stat().st_size for path in at.rglob("*") if path.is_file()}


def fuzz_files(targets: list[Target], at: Path, cases: int, seed: int, found: Found) -> None:
    """Damage files in turn, and read each; what it would lead to is held against the whole one."""
    whole = {target.name: target.path.read_bytes() for target in targets}
    results = {target.name: target.read() for target in targets}
    before = tree(at)
    for case in range(cases):
        target = targets[case % len(targets)]
        name = f"{target.name}, case {case} of seed {seed}"
        rng = random.Random(f"{seed} {case}")
        damaged = target.damage(whole[target.name], rng)
        target.path.write_bytes(damaged)
        done, result = attempt(target.read, name, found)
        if done and target.sealed and str(result) != str(results[target.name]):
            found.wrong.append(f"{name}: read without an error, to another result")
        target.path.write_bytes(whole[target.name])
    after = tree(at)
    if after != before:
        found.wrong.append(f"files were written: {sorted(set(after.items()) ^ set(before.items()))[:5]}")
