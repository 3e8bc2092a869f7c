"""Assistant answers under steering toward the Assistant, as two readers see them.

    python benchmarks/read_blind.py        # writes read_blind.md

``labels/steering_toward_on_qwen.jsonl`` holds 640 answers of Qwen2.5-Coder-0.5B-Instruct to "who are you"
under role prompts (docs/preregistration.md, C8): 80 each without a plan, at +0.2, and under six controls.
Two readers labelled the 365 different texts without seeing the condition, the role or each other. An answer
counts if both see the Assistant in it. Intervals are a bootstrap over roles.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from role_information import kappa

LABELS = Path(__file__).parent / "labels" / "steering_toward_on_qwen.jsonl"
DRAWS = 10_000
KINDS = {"isotropic": "random", "shuffled": "shuffled", "role-span": "role-span"}


def main() -> None:
    """Write the page."""
    rows = [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]
    condition = np.array([row["condition"] for row in rows])
    role = np.array([row["role"] for row in rows])
    readers = [np.array([row[name] for row in rows]) for name in ("reader_a", "reader_b")]
    both = readers[0] & readers[1]
    judge = np.array([row["judge"] == "assistant" for row in rows]).astype(int)
    roles = sorted(set(role))
    by_role = {
        name: np.array([both[(condition == name) & (role == one)].mean() for one in roles])
        for name in dict.fromkeys(condition.tolist())
    }
    draws = np.random.default_rng(0).integers(len(roles), size=(DRAWS, len(roles)))

    def difference(values: np.ndarray) -> str:
        low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
        return f"{values.mean():+.2f} ({low:+.2f} to {high:+.2f})"

    texts = len({row["text"] for row in rows})
    lines = [
        "# Steering toward the Assistant on Qwen2.5-Coder-0.5B, read blind\n",
        f"`python benchmarks/read_blind.py`: {len(rows)} answers, {texts} texts, {len(roles)} roles. "
        f"Kappa of the two readers {kappa(*readers):.2f}; of the offline judge with what both see "
        f"{kappa(judge, both):.2f}. The readers are agents of one kind that follow a written guide, so their "
        "agreement says little about errors that they share.\n",
        "| condition | Assistant, both readers | offline judge | less no plan (95%) |",
        "|---|---|---|---|",
    ]
    for name, values in by_role.items():
        at = condition == name
        told = "" if name == "plain" else difference(values - by_role["plain"])
        lines.append(f"| {name} | {both[at].mean():.2f} | {judge[at].mean():.2f} | {told} |")
    lines += ["", "| kind of control | axis less its controls, pooled (95%) |", "|---|---|"]
    for kind, start in KINDS.items():
        pooled = np.mean([values for name, values in by_role.items() if name.startswith(start)], axis=0)
        lines.append(f"| {kind} | {difference(by_role['axis +0.2'] - pooled)} |")
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
