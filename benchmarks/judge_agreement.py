"""How well the offline judge agrees with readers of the same responses.

``judge_labels.jsonl`` holds 260 responses of SmolLM2-135M-Instruct, each read by two readers who
did not see each other's labels; where they differed, a third reading decided. One half was looked
at while the rules were written, the other was set aside until they were final.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from personascope.judge import JudgeItem, RulesJudge

LABELS = Path(__file__).with_name("judge_labels.jsonl")
PAGE = Path(__file__).with_suffix(".md")
STRATA = {
    "role": "a role at random",
    "role-keyword": "a role, response with a word like AI, assistant, sorry",
    "default": "the default at random, read as if told to play a random role",
    "default-keyword": "the default, response with such a word, read likewise",
}


def labelled() -> list[dict[str, Any]]:
    """Return the labelled responses."""
    return [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]


def rules_scores(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return the offline judge's score of each."""
    judge = RulesJudge()

    async def score(row: dict[str, Any]) -> int:
        fields = ("id", "role", "description", "system_prompt", "question", "response")
        verdict = await judge.score(JudgeItem(**{name: row[name] for name in fields}))
        assert verdict.score is not None
        return verdict.score

    async def all_of_them() -> list[int]:
        return [await score(row) for row in rows]

    return asyncio.run(all_of_them())


def kappa(a: Sequence[int], b: Sequence[int], *, quadratic: bool = False) -> float:
    """Return Cohen's kappa of two lists of scores 0 to 3, unweighted or with quadratic weights."""
    table = np.zeros((4, 4))
    np.add.at(table, (list(a), list(b)), 1.0)
    table /= table.sum()
    distance = np.subtract.outer(np.arange(4), np.arange(4))
    weight = distance**2 if quadratic else (distance != 0).astype(float)
    chance = (weight * np.outer(table.sum(1), table.sum(0))).sum()
    return float(1 - (weight * table).sum() / chance) if chance else float("nan")


def interval(a: Sequence[int], b: Sequence[int], *, quadratic: bool = False) -> tuple[float, float]:
    """Return the 95% bootstrap interval of kappa over responses."""
    rng = np.random.default_rng(0)
    one, two = np.array(a), np.array(b)
    draws = []
    for _ in range(2000):
        pick = rng.integers(len(one), size=len(one))
        draws.append(kappa(one[pick].tolist(), two[pick].tolist(), quadratic=quadratic))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def page() -> str:
    """Return the page with the tables."""
    rows = labelled()
    scores = rules_scores(rows)
    lines = [
        "# The offline judge against readers",
        "",
        "`python benchmarks/judge_agreement.py`, on `benchmarks/judge_labels.jsonl`",
        "",
        f"{len(rows)} responses of SmolLM2-135M-Instruct (40 tokens at most), read by two readers each.",
        "Responses that speak of an AI are rare, so half of the sample was drawn for words that hint at it:",
        "the shares below are those of this sample, not of a map.",
        "",
        "| drawn from | n | read 0 | 1 | 2 | 3 |",
        "|---|---|---|---|---|---|",
    ]
    for stratum, what in STRATA.items():
        found = Counter(row["score"] for row in rows if row["stratum"] == stratum)
        counts = " | ".join(str(found[score]) for score in range(4))
        lines.append(f"| {what} | {sum(found.values())} | {counts} |")
    lines += [
        "",
        "| compared | n | equal | Cohen's kappa | 95% | quadratic kappa | 95% |",
        "|---|---|---|---|---|---|---|",
    ]
    readers = [tuple(row["readers"]) for row in rows]
    lines.append(_line("reader and reader", [r[0] for r in readers], [r[1] for r in readers]))
    for half in ("tuning", "held-out"):
        chosen = [number for number, row in enumerate(rows) if row["half"] == half]
        read = [rows[number]["score"] for number in chosen]
        lines.append(_line(f"rules and readers, {half} half", read, [scores[n] for n in chosen]))
    held = [number for number, row in enumerate(rows) if row["half"] == "held-out"]
    cells = Counter((rows[number]["score"], scores[number]) for number in held)
    lines += ["", "Held-out half, read (rows) against rules (columns):", "", "| read | 0 | 1 | 2 | 3 |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {read} | " + " | ".join(str(cells[(read, rule)]) for rule in range(4)) + " |" for read in range(4)
    ]
    at_random = [row for row in rows if row["stratum"] == "role"]
    shows = Counter(row["shows"][0] for row in at_random)
    lines += [
        "",
        f"Of the {len(at_random)} role responses drawn at random, the first reader saw the role clearly in "
        f"{shows['clear']}, somewhat in {shows['some']} and not at all in {shows['none']}: a model of this "
        "size plays faintly, and a 3 says no more than that it did not fall back to being an AI.",
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, a: Sequence[int], b: Sequence[int]) -> str:
    same = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    parts = [name, str(len(a)), f"{same:.3f}"]
    for quadratic in (False, True):
        low, high = interval(a, b, quadratic=quadratic)
        parts += [f"{kappa(a, b, quadratic=quadratic):.2f}", f"{low:.2f} to {high:.2f}"]
    return "| " + " | ".join(parts) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
