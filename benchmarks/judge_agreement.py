"""How well judges agree with readers of the same responses: the rules, local models, and none.

``judge_labels.jsonl`` holds 260 responses of SmolLM2-135M-Instruct, each read by two readers who
did not see each other's labels; where they differed, a third reading decided. One half was looked
at while the rules were written, the other was set aside until they were final.

    python benchmarks/judge_agreement.py local:MODEL NAME [HALF]   # adds NAME to labels/judge_scores.jsonl
    python benchmarks/judge_agreement.py                           # writes judge_agreement.md

HALF is "tuning" or "held-out"; without it all responses are judged.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from role_information import auc

from personascope.judge import Judge, JudgeItem, JudgePool, RulesJudge, parse_judge

LABELS = Path(__file__).with_name("judge_labels.jsonl")
SCORES = Path(__file__).with_name("labels") / "judge_scores.jsonl"
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


def item(row: dict[str, Any]) -> JudgeItem:
    """Return a labelled response as a judge gets it."""
    fields = ("id", "role", "description", "system_prompt", "question", "response")
    return JudgeItem(**{name: row[name] for name in fields})


def rules_scores(rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return the offline judge's score of each."""
    judge = RulesJudge()

    async def score(row: dict[str, Any]) -> int:
        verdict = await judge.score(item(row))
        assert verdict.score is not None
        return verdict.score

    async def all_of_them() -> list[int]:
        return [await score(row) for row in rows]

    return asyncio.run(all_of_them())


def add(judge: Judge, name: str, half: str | None = None) -> None:
    """Let a judge score every response, or half of them, and write the scores beside other judges'."""
    rows, start = [row for row in labelled() if half in (None, row["half"])], time.monotonic()
    kept = [line for line in _lines(SCORES) if json.loads(line)["judge"] != name]
    found: dict[str, str] = {}
    with JudgePool(judge) as pool:
        for verdict in pool.label(map(item, rows)):
            shares = [round(share, 4) for share in verdict.probabilities or ()]
            row = {"judge": name, "id": verdict.id, "score": verdict.score, "probabilities": shares}
            found[verdict.id] = json.dumps(row)
            if len(found) % 20 == 0:
                left = (time.monotonic() - start) / len(found) * (len(rows) - len(found)) / 60
                print(f"judge: {len(found)} of {len(rows)}, {left:.1f} min left", file=sys.stderr, flush=True)
    SCORES.write_text("\n".join([*kept, *(found[row["id"]] for row in rows)]) + "\n", encoding="utf-8")


def model_scores() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the scores of the models that were asked, name -> id -> line."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in map(json.loads, _lines(SCORES)):
        found.setdefault(line["judge"], {})[line["id"]] = line
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


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
        "# Judges against readers",
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
    read = [rows[number]["score"] for number in held]
    models = model_scores()
    by_judge = {"rules": (read, [scores[number] for number in held])}
    by_judge |= {name: _pair(rows, by_id, "held-out") for name, by_id in models.items()}
    lines += [
        _line(f"{name} and readers, {half} half", *pair)
        for name, by_id in models.items()
        for half in ("tuning", "held-out")
        if (pair := _pair(rows, by_id, half))[0]
    ]
    lines.append(_line("none (always 3) and readers, held-out half", read, [3] * len(held)))
    for name, pair in by_judge.items():
        cells = Counter(zip(*pair, strict=True))
        lines += ["", f"Held-out half, read (rows) against {name} (columns):", "", "| read | 0 | 1 | 2 | 3 |"]
        lines.append("|---|---|---|---|---|")
        lines += [
            f"| {row} | " + " | ".join(str(cells[(row, rule)]) for rule in range(4)) + " |"
            for row in range(4)
        ]
    if models:
        lines += [
            "",
            "A model's label may be off while its probabilities still tell responses apart. Area under the "
            "curve: the chance that a response that was read as 3 gets more probability of a 3 than "
            "one that was not (95% over responses).",
            "",
            "| judge | n | area | 95% |",
            "|---|---|---|---|",
        ]
        lines += [_area(name, rows, by_id) for name, by_id in models.items()]
    at_random = [row for row in rows if row["stratum"] == "role"]
    shows = Counter(row["shows"][0] for row in at_random)
    lines += [
        "",
        f"Of the {len(at_random)} role responses drawn at random, the first reader saw the role clearly in "
        f"{shows['clear']}, somewhat in {shows['some']} and not at all in {shows['none']}: a model of this "
        "size plays faintly, and a 3 says no more than that it did not fall back to being an AI.",
    ]
    return "\n".join(lines) + "\n"


def _pair(rows: Sequence[dict[str, Any]], by_id: dict[str, Any], half: str) -> tuple[list[int], list[int]]:
    scored = {name: line["score"] for name, line in by_id.items() if line["score"] is not None}
    chosen = [row for row in rows if row["half"] == half and row["id"] in scored]
    return [row["score"] for row in chosen], [scored[row["id"]] for row in chosen]


def _area(name: str, rows: Sequence[dict[str, Any]], by_id: dict[str, Any]) -> str:
    rows = [row for row in rows if row["id"] in by_id]
    shares = np.array([by_id[row["id"]]["probabilities"][3] for row in rows])
    full = np.array([row["score"] == 3 for row in rows])
    rng, draws = np.random.default_rng(0), []
    for _ in range(2000):
        pick = rng.integers(len(rows), size=len(rows))
        draws.append(auc(shares[pick], full[pick]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"| {name} | {len(rows)} | {auc(shares, full):.2f} | {low:.2f} to {high:.2f} |"


def _line(name: str, a: Sequence[int], b: Sequence[int]) -> str:
    same = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    parts = [name, str(len(a)), f"{same:.3f}"]
    for quadratic in (False, True):
        low, high = interval(a, b, quadratic=quadratic)
        parts += [f"{kappa(a, b, quadratic=quadratic):.2f}", f"{low:.2f} to {high:.2f}"]
    return "| " + " | ".join(parts) + " |"


if __name__ == "__main__":
    if len(sys.argv) in (3, 4):
        chosen = parse_judge(sys.argv[1])
        assert chosen is not None
        add(chosen, *sys.argv[2:])
    elif len(sys.argv) > 1:
        sys.exit(__doc__)
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.read_text(encoding="utf-8"))
