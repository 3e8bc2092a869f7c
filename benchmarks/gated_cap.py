"""What a cap that a monitor's alarm switches on does, against the same cap throughout and a random one.

personascope simulate RUN --domains coding,writing --conversations 40 --turns 6 --max-new-tokens 64 \
        --seed 2 --switch-at 3 --out TALKS/switched
personascope plan cap RUN --layers 12:20 --axis-percentile 75 --out CAP
personascope plan random RUN CAP --out RANDOM
personascope replay RUN TALKS/switched --plan CAP --out TALKS/always
personascope replay RUN TALKS/switched --monitor MONITOR --gate CAP --out TALKS/gated
personascope replay RUN TALKS/switched --monitor MONITOR --gate RANDOM --out TALKS/gated_random
python benchmarks/gated_cap.py TALKS
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from paired import write_page

from personascope.dynamics import Dialogue, DriftRun, read_drift
from personascope.stats import mean_interval, paired_difference

RUNS = {
    "switched": "no plan",
    "gated": "the cap from the alarm on",
    "gated_random": "a random cap from the alarm on",
    "always": "the cap throughout",
}


def alarm_of(dialogue: Dialogue) -> int | None:
    """Return the turn of the alarm."""
    return next((turn.number for turn in dialogue.turns if turn.alarm is not None), None)


def capped_share(run: DriftRun) -> float:
    """Return the share of all tokens that passed through the model on which a cap fired."""
    every = [turn for dialogue in run.dialogues for turn in dialogue.turns]
    return sum(e.capped_tokens for e in every) / sum(e.prompt_tokens + e.token_count for e in every)


def main(folder: Path) -> None:
    runs = {name: read_drift(folder / name) for name in RUNS}
    gated = {dialogue.id: dialogue for dialogue in runs["gated"].dialogues}
    turns = {id: turn for id, d in gated.items() if (turn := alarm_of(d)) is not None}
    later = [id for id, turn in turns.items() if turn + 1 < len(gated[id].turns)]
    topics = ["/".join((gated[id].domain, gated[id].topic)) for id in later]
    paths = {name: {d.id: run.positions(d) for d in run.dialogues} for name, run in runs.items()}
    after = {name: [float(np.nanmean(paths[name][id][turns[id] + 1 :])) for id in later] for name in RUNS}
    lines = [
        "| | replies after the alarm | less no plan | p | tokens capped |",
        "|---|---|---|---|---|",
    ]
    for name, told in RUNS.items():
        mean = mean_interval(after[name], topics)
        cells = ["", ""]
        if name != "switched":
            gap = paired_difference(after[name], after["switched"], topics)
            cells = [f"{gap.estimate:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})", f"{gap.p_value:.4f}"]
        lines.append(
            f"| {told} | {mean.estimate:+.2f} ({mean.low:+.2f} to {mean.high:+.2f}) | {cells[0]} | "
            f"{cells[1]} | {capped_share(runs[name]):.1%} |"
        )
    inside: list[tuple[float, float]] = []
    for id, number in turns.items():
        turn = gated[id].turns[number]
        values = runs["gated"].to_units(turn.tokens.astype(float))
        cut = (turn.alarm or 0) + 1
        if cut < len(values):
            inside.append((float(values[max(0, cut - 32) : cut].mean()), float(values[cut:].mean())))
    before, then = np.array(inside).mean(0)
    write_page(
        __file__,
        "A cap that an alarm switches on",
        f"{len(gated)} conversations in which the user asks for a role; the monitor of tokens raised an "
        f"alarm in {len(turns)}, and {len(later)} of them have replies after it. Positions at layer "
        f"{runs['gated'].layer}, 95% intervals and sign flips over topics.\n\n"
        + "\n".join(lines)
        + f"\n\nInside the reply of the alarm ({len(inside)} conversations): {before:+.2f} over the 32 "
        f"tokens up to it, {then:+.2f} over those after it.",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
