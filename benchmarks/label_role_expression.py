"""Let a judge score the responses that readers labelled (``labels/role_expression.jsonl``), 0 to 3.

    python benchmarks/label_role_expression.py local:MODEL NAME

Adds the scores of NAME to ``labels/role_scores.jsonl``, a line for each response and judge, and keeps those
of other judges. `role_information.py` sets them beside the readers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from personascope.judge import Judge, JudgeItem, parse_judge

LABELS = Path(__file__).with_name("labels")
SCORES = LABELS / "role_scores.jsonl"


async def score(judge: Judge, rows: list[dict[str, Any]]) -> list[int | None]:
    """Return the score of each response, None where the judge gave none."""
    verdicts = []
    for row in rows:
        item = JudgeItem(
            id=f"{row['model']}/{row['id']}",
            role=row["role"],
            description=row["description"],
            system_prompt=row["system_prompt"],
            question=row["question"],
            response=row["response"],
        )
        verdicts.append((await judge.score(item)).score)
    await judge.aclose()
    return verdicts


def main(name: str, label: str) -> None:
    """Score every response, and write the file anew."""
    judge = parse_judge(name)
    if judge is None:
        sys.exit(f"{name!r} is no judge")
    lines = (LABELS / "role_expression.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    known = SCORES.read_text(encoding="utf-8").splitlines() if SCORES.exists() else []
    kept = [line for line in known if json.loads(line)["judge"] != label]
    for row, value in zip(rows, asyncio.run(score(judge, rows)), strict=True):
        kept.append(
            json.dumps(
                {"judge": label, "model": row["model"], "kind": row["kind"], "id": row["id"], "score": value}
            )
        )
    SCORES.write_text("\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
