"""What role information is worth: against readers of the same responses, beside cheaper and other measures.

``labels/role_expression.jsonl`` holds 360 responses of two models, 48 tokens at most: 320 under a role's
prompt, drawn at random from pilot runs over 60 roles, and 40 decoys of the default that were shown as
answers of a role. Two readers (agents who followed a written guide and saw no measure and no model) labelled
each 0 (nothing of the role), 1 (something) or 2 (clearly in the role). ``labels/role_baseline.jsonl`` holds
what the default's responses of the same runs measured.

    python benchmarks/role_information.py            # writes role_information.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from personascope.judge import Embedder

HERE = Path(__file__).parent
PAGE = Path(__file__).with_suffix(".md")
MODELS = ("SmolLM2-135M-Instruct", "Qwen2.5-Coder-0.5B-Instruct")
DRAWS = 2000


def read(name: str) -> list[dict[str, Any]]:
    """Return the lines of a file of labels."""
    return [json.loads(line) for line in (HERE / "labels" / name).read_text(encoding="utf-8").splitlines()]


def kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Return Cohen's kappa of labels 0 to 2 with quadratic weights."""
    table = np.zeros((3, 3))
    np.add.at(table, (a, b), 1.0 / len(a))
    weight = np.square(np.subtract.outer(np.arange(3), np.arange(3)))
    return float(1 - (weight * table).sum() / (weight * np.outer(table.sum(1), table.sum(0))).sum())


def auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the chance that a response with the label lies above one without it."""
    above, below = values[positive], values[~positive]
    if not len(above) or not len(below):
        return float("nan")
    return float(np.mean((above[:, None] > below) + 0.5 * (above[:, None] == below)))


def interval(statistic: Any, n: int) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a statistic of drawn places."""
    rng = np.random.default_rng(0)
    draws = [statistic(rng.integers(n, size=n)) for _ in range(DRAWS)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def measures(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return every measure of some responses, the embeddings' made here."""
    found = {name: np.array([row["measures"][name] for row in rows]) for name in rows[0]["measures"]}
    embed = Embedder().encode
    response, prompt, question = (
        embed([row[key] for row in rows]) for key in ("response", "system_prompt", "question")
    )
    about = embed([row["description"] for row in rows])
    found["embeddings: response and role's description"] = (response * about).sum(1)
    found["embeddings: response and prompt, less question"] = (response * (prompt - question)).sum(1)
    words = [row["response"].split() for row in rows]
    first = {"I", "I'm", "I've", "I'd", "I'll", "my", "My", "me", "myself"}
    found["words in the first person"] = np.array(
        [sum(w.strip(",.!?;:\"'") in first for w in ws) for ws in words]
    )
    scores = {(row["judge"], row["model"], row["id"]): row["score"] for row in read("role_scores.jsonl")}
    for judge in sorted({judge for judge, _, _ in scores}):
        values = [scores[judge, row["model"], row["id"]] for row in rows]
        if None in values:
            raise ValueError(f"{judge} left {values.count(None)} responses without a score")
        found[f"judge {judge}, 0 to 3"] = np.array(values)
    return found


def lines() -> Iterator[str]:
    """Yield the page."""
    rows = read("role_expression.jsonl")
    baseline = read("role_baseline.jsonl")
    yield "# Role information against readers\n"
    yield "`python benchmarks/role_information.py`; the sample and the labels are described there.\n"
    yield "| model | n | readers agree (quadratic kappa, 95%) | any of the role | clearly | decoys: any |"
    yield "|---|---|---|---|---|---|"
    for model in MODELS:
        mine = [row for row in rows if row["model"] == model and row["kind"] == "role"]
        decoys = [row for row in rows if row["model"] == model and row["kind"] == "decoy"]
        a, b = np.array([row["readers"] for row in mine]).T
        low, high = interval(lambda pick, a=a, b=b: kappa(a[pick], b[pick]), len(a))
        shown = np.mean([sum(row["readers"]) > 0 for row in decoys])
        yield (
            f"| {model} | {len(mine)} | {kappa(a, b):.2f} ({low:.2f} to {high:.2f}) | "
            f"{np.mean(a + b > 0):.2f} | {np.mean(a + b >= 3):.2f} | {shown:.2f} of {len(decoys)} |"
        )
    yield "\nArea under the curve: the chance that a response in which a reader saw something of the role"
    yield "lies above one in which neither did. `own`, `none`, `other`: mean log-probability under the"
    yield "response's own prompt, without one, under a prompt of another role.\n"
    yield "| measure | " + " | ".join(MODELS) + " |"
    yield "|---|---|---|"
    columns = []
    for model in MODELS:
        mine = [row for row in rows if row["model"] == model and row["kind"] == "role"]
        seen = np.array([sum(row["readers"]) > 0 for row in mine])
        column = {}
        for name, values in measures(mine).items():
            low, high = interval(lambda pick, v=values, s=seen: auc(v[pick], s[pick]), len(mine))
            column[name] = f"{auc(values, seen):.2f} ({low:.2f} to {high:.2f})"
        columns.append(column)
    for name in columns[0]:
        yield f"| {name} | " + " | ".join(column[name] for column in columns) + " |"
    yield "\nThe threshold: 95% quantile of the default's responses, and what readers saw on either side.\n"
    yield (
        "| model | baseline | threshold | played | seen, of those that played | of the others | "
        "played, of those seen |"
    )
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        mine = [row for row in rows if row["model"] == model and row["kind"] == "role"]
        seen = np.array([sum(row["readers"]) > 0 for row in mine])
        values = np.array([row["measures"]["own - none"] for row in mine])
        default = [row for row in baseline if row["model"] == model]
        for name, of in (
            ("under neutral prompts (own - none)", [r["own - none"] for r in default if r["system_prompt"]]),
            ("scored under random roles' prompts", [r["random role - none"] for r in default]),
        ):
            threshold = float(np.quantile(of, 0.95))
            played = values > threshold
            yield (
                f"| {model} | {name} | {threshold:.3f} | {played.mean():.2f} | {seen[played].mean():.2f} | "
                f"{seen[~played].mean():.2f} | {played[seen].mean():.2f} |"
            )


if __name__ == "__main__":
    text = "\n".join(lines()) + "\n"
    PAGE.write_text(text, encoding="utf-8")
    print(text)
