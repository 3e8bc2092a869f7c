"""Arguments of the command line at random, in this process."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.harness import Found, attempt, tree
from helpers.cli import personascope
from personascope.cli._app import COMMANDS, load_command

NUMBERS = (
    "0", "-1", "1", "3", "1e400", "-1e400", "nan", "inf", "-inf", "0.5", "-0.0", "2147483648", "1,2",
    "-0.1,nan", "9223372036854775808", "1" + "0" * 400, "0x10", "1_0", "", " ", "x", "1e300,0", ",",
    "3:1", "0:2", "9:99",
)  # fmt: skip
TEXTS = (
    "", " ", "x", "axis", "pc1", "pc0", "pc99", "role:ant", "role:nobody", "axis@99", "axis@-1", "a=b", "#",
    "@", "../x", "\x1b[31mred", "\ud800", "[bold]", "hub:", "hub:a:b:c", "rules", "openai:", "openai:m@",
    "openai:m@http://127.0.0.1:9", "local:", "none", "all", "builtin", "-", "nowhere", "a" * 5000,
)  # fmt: skip
STARTS = {"map", "serve", "doctor"}
"""Commands that begin something at their own names; their arguments are parsed, never run."""


def commands() -> list[tuple[list[str], Any]]:
    """Return every command with the words that name it."""
    made: list[tuple[list[str], Any]] = []
    for name in COMMANDS:
        found = load_command(name)
        under = getattr(found, "commands", None)
        made += [([name, one], each) for one, each in under.items()] if under else [([name], found)]
    return made


def arguments(words: list[str], command: Any, places: list[str], rng: random.Random) -> list[str]:
    """Return a command line: what is needed, mostly, and some options, with values of any kind."""
    made = list(words)
    for one in command.params:
        if one.param_type_name == "argument":
            if rng.random() < 0.95:
                made.append(rng.choice(places) if rng.random() < 0.7 else rng.choice((*TEXTS, *NUMBERS)))
        elif one.name not in ("help",) and (one.required or rng.random() < 0.15):
            made.append(rng.choice(one.opts))
            if not getattr(one, "is_flag", False) and rng.random() < 0.97:
                numeric = one.min is not None or one.max is not None
                pool = NUMBERS if numeric or rng.random() < 0.4 else TEXTS
                made.append(rng.choice(places) if rng.random() < 0.3 and not numeric else rng.choice(pool))
    if words[0] in STARTS:
        made.append("--no-such-option")
    return made


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Run in a folder, where what is written by a relative name is seen."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def fuzz_arguments(at: Path, cases: int, seed: int, found: Found) -> None:
    """Run command lines over whole files; each ends with a code and a message, and writes where it shall."""
    known = commands()
    places = sorted(str(path) for path in at.rglob("*") if path.is_dir() or path.stat().st_size < 2**16)
    # What a command can be about comes as often as everything else together.
    whole = sorted(str(path) for path in at.iterdir())
    places += whole * (len(places) // len(whole))
    work = at.with_name(f"{at.name}-work")
    work.mkdir(exist_ok=True)
    before = tree(at)
    for case in range(cases):
        rng = random.Random(f"arguments {seed} {case}")
        words, command = rng.choice(known)
        # Nothing is written over the files that other cases read.
        line = arguments(words, command, places, rng)
        for place, word in enumerate(line[:-1]):
            if word in ("--out", "-o"):
                line[place + 1] = str(work / "out")
        name = f"arguments, case {case} of seed {seed}: {line}"
        with inside(work):
            done, ran = attempt(lambda line=line: personascope(*line), name, found)
        if done:
            found.outcomes[f"exit code {ran.code}"] += 1
            if ran.code not in (0, 1, 2, 3) or "Traceback" in ran.err:
                found.wrong.append(f"{name}: exit code {ran.code}: {ran.err[-300:]}")
            elif ran.code and not (ran.err + ran.out).strip():
                found.wrong.append(f"{name}: exit code {ran.code} without a word")
    after = tree(at)
    strange = sorted(set(after) - set(before))
    # A release keeps norms, a map a report; nothing else may come, and nothing may go.
    strange = [one for one in strange if Path(one).name not in ("norms.json", "report.html")]
    if strange or set(before) - set(after):
        found.wrong.append(f"files came or went: {[*strange, *sorted(set(before) - set(after))][:5]}")
