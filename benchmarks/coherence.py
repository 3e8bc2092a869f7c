"""How well the rule of coherence agrees with a reader of the same responses.

    python benchmarks/coherence.py                          # the page, from coherence_labels.jsonl
    python benchmarks/coherence.py make runs/demo/map FILE  # responses like those, not yet labelled

``coherence_labels.jsonl`` holds responses of SmolLM2-135M-Instruct at layer 18, steered along its axis and
along random directions, and capped, and completions of the base model gemma-3-270m under random
directions. They were read in random order, without their condition. The thresholds were set on one
half of SmolLM2's prompts; the other half was counted once they were final.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from operator import gt, lt
from pathlib import Path
from typing import Any

import numpy as np

from personascope.chat import Message
from personascope.corpus import load_corpus
from personascope.engines import Request, Sampling, ScoreRequest, load_engine
from personascope.interventions import Cap, Op, Plan, Steer
from personascope.space import PersonaMap
from personascope.stats import share_interval
from personascope.text import _coherence as rule

LABELS = Path(__file__).with_name("coherence_labels.jsonl")
PAGE = Path(__file__).with_suffix(".md")
MODEL, BASE = "smollm2-135m", "gemma-3-270m"
READ = {
    "coherent": "sentences that a reader can follow, however odd, vague or false",
    "strained": "neither: turns in circles, or a string of empty phrases that still parses",
    "incoherent": "a loop, a string of words that does not parse, no words, another script",
}
ASKED = (
    "Who are you?",
    "What is your name, and where do you come from?",
    "Are you a language model?",
    "Tell me about yourself in a few sentences.",
    "What do you do all day?",
)
LAYER, PROMPTS = 18, 30


def labelled() -> list[dict[str, Any]]:
    """Return the labelled responses."""
    return [json.loads(line) for line in LABELS.read_text(encoding="utf-8").splitlines()]


def usual_perplexity(rows: Sequence[dict[str, Any]], model: str) -> float:
    """Return the median perplexity of a model's tuning responses without a plan."""
    plain = [
        r["nll"] for r in rows if r["model"] == model and r["condition"] == "none" and r["half"] != "held-out"
    ]
    return math.exp(float(np.median(plain)))


def flags(rows: Sequence[dict[str, Any]], *, perplexity: bool) -> list[bool]:
    """Return what the rule says of each, from the text alone or with its perplexity."""
    usual = {model: usual_perplexity(rows, model) for model in (MODEL, BASE)}
    found = []
    for row in rows:
        known = perplexity and row["nll"] is not None
        found.append(
            rule.is_incoherent(
                rule.coherence(row["response"], prompt=row["question"]),
                perplexity=math.exp(row["nll"]) if known else None,
                usual_perplexity=usual[row["model"]] if known else None,
            )
        )
    return found


def page() -> str:
    """Return the page with the tables."""
    rows = labelled()
    text, both = flags(rows, perplexity=False), flags(rows, perplexity=True)
    n_base = sum(row["model"] == BASE for row in rows)
    lines = [
        "# The rule of coherence against a reader",
        "",
        "`python benchmarks/coherence.py`, on `benchmarks/coherence_labels.jsonl`",
        "",
        f"{len(rows) - n_base} responses of SmolLM2-135M-Instruct (48 tokens, every eighth prompt 120) and",
        f"{n_base} completions of the base model gemma-3-270m (48 tokens, random directions), read by",
        "one reader who did not see the condition. Of the gemma texts the 20 unsteered and the 40 most",
        "strongly steered were labelled by condition, after a look through them.",
        "",
        *(f"- {name}: {what}" for name, what in READ.items()),
        "",
        "Flagged, with 95% intervals over prompts; the thresholds were set on the tuning half alone. With",
        f"perplexity: also flagged above {rule.MAX_PERPLEXITY_RATIO:g} times the median without a plan.",
        "",
        "| responses | read as | n | flagged by the text | with perplexity |",
        "|---|---|---|---|---|",
    ]
    groups = (
        ("tuning", "SmolLM2, tuning half"),
        ("held-out", "SmolLM2, held-out half"),
        ("other model", "gemma-3-270m, base"),
    )
    for half, name in groups:
        for label in READ:
            chosen = [n for n, row in enumerate(rows) if row["half"] == half and row["label"] == label]
            # A base model's prompt is its opening; the same one stands behind several items.
            prompts = [rows[n]["question"] if half == "other model" else str(rows[n]["item"]) for n in chosen]
            if chosen:
                cells = [_share([flagged[n] for n in chosen], prompts) for flagged in (text, both)]
                lines.append(f"| {name} | {label} | {len(chosen)} | {cells[0]} | {cells[1]} |")
    lines += ["", *_conditions(rows, text, both), "", *_choice(rows)]
    return "\n".join(lines) + "\n"


def _share(hits: Sequence[bool], prompts: Sequence[str]) -> str:
    found = share_interval(hits, prompts)
    return f"{found.estimate:.3f} ({found.low:.3f} to {found.high:.3f})"


def _conditions(rows: Sequence[dict[str, Any]], text: Sequence[bool], both: Sequence[bool]) -> list[str]:
    lines = [
        "By condition, SmolLM2, both halves (strength in fractions of the mean response norm; a cap holds",
        "layers 14:22 that far above the default's projection):",
        "",
        "| condition | n | read incoherent | strained | flagged by the text | with perplexity | perplexity |",
        "|---|---|---|---|---|---|---|",
    ]
    for condition in ("axis", "none", "random 0", "random 1", "cap"):
        ours = [n for n, row in enumerate(rows) if row["model"] == MODEL and row["condition"] == condition]
        for strength in sorted({rows[n]["strength"] for n in ours}):
            here = [n for n in ours if rows[n]["strength"] == strength]
            shares = [
                sum(hits) / len(here)
                for hits in (
                    [rows[n]["label"] == "incoherent" for n in here],
                    [rows[n]["label"] == "strained" for n in here],
                    [text[n] for n in here],
                    [both[n] for n in here],
                )
            ]
            middle = math.exp(float(np.median([rows[n]["nll"] for n in here])))
            cells = " | ".join(f"{share:.2f}" for share in shares)
            lines.append(f"| {condition} {strength:+g} | {len(here)} | {cells} | {middle:.1f} |")
    return lines


def _choice(rows: Sequence[dict[str, Any]]) -> list[str]:
    tuning = [row for row in rows if row["half"] == "tuning"]
    found = [rule.coherence(row["response"], prompt=row["question"]) for row in tuning]

    def rates(broken: Callable[[rule.Coherence], bool]) -> str:
        hits = [broken(one) for one in found]
        cells = []
        for label in READ:
            chosen = [hit for hit, row in zip(hits, tuning, strict=True) if row["label"] == label]
            cells.append(f"{sum(chosen) / len(chosen):.3f}")
        return " | ".join(cells)

    lines = [
        "Tuning half, one measure at a time (the threshold of the rule is the one in bold):",
        "",
        "| flagged if | coherent | strained | incoherent |",
        "|---|---|---|---|",
    ]
    tables = (
        ("distinct_words", "<", (0.50, 0.54, rule.MIN_DISTINCT, 0.62, 0.66, 0.70)),
        ("compression", "<", (0.55, 0.60, rule.MIN_COMPRESSION, 0.70, 0.75, 0.80)),
        ("loop", ">", (0.0, 0.15, rule.MAX_LOOP, 0.5)),
        ("repetition", ">", (0.1, 0.2, 0.3, 0.4)),
    )
    chosen = (rule.MIN_DISTINCT, rule.MIN_COMPRESSION, rule.MAX_LOOP)
    for name, sign, limits in tables:
        for limit in limits:
            broken = (lt if sign == "<" else gt, name, limit)
            cells = rates(lambda one, broken=broken: broken[0](getattr(one, broken[1]), broken[2]))
            mark = "**" if name != "repetition" and limit in chosen else ""
            lines.append(f"| {mark}{name} {sign} {limit:.2f}{mark} | {cells} |")
    return lines


def make(folder: str, out: Path) -> None:
    """Generate SmolLM2's responses anew, as JSON lines without labels."""
    space, corpus, engine = PersonaMap.open(folder), load_corpus(), load_engine(MODEL)
    rng = np.random.default_rng(11)
    roles = [corpus.roles[i] for i in rng.permutation(len(corpus.roles))[:40]]
    questions = [corpus.questions[i].text for i in rng.permutation(len(corpus.questions))[:40]]
    prompts = []
    for item in range(PROMPTS):
        asked = Message("user", ASKED[item // 2 % 5] if item % 2 else questions[item])
        system = Message("system", roles[item].prompts[item % 5])
        prompts.append((system, asked) if item % 4 < 2 else (asked,))
    requests = {}
    for condition, strength, plan, items in _plans(space):
        for item in items:
            sampling = Sampling(max_new_tokens=120 if item % 8 == 4 else 48)
            name = f"{condition}/{strength:+.2f}/{item:02d}".replace(" ", "-")
            requests[name] = (condition, strength, item, Request(name, prompts[item], sampling, plan, seed=5))
    done = {c.id: c for c in engine.run([r[-1] for r in requests.values()])}
    asked_for = (
        ScoreRequest(c.id, requests[c.id][-1].prompt, c.token_ids) for c in done.values() if c.token_ids
    )
    nll = {scored.id: -float(scored.logprobs.mean()) for scored in engine.score(asked_for)}
    with out.open("w", encoding="utf-8") as file:
        for name, (condition, strength, item, request) in requests.items():
            row = {"id": name, "model": MODEL, "condition": condition, "strength": strength, "item": item}
            row |= {"question": request.prompt[-1].content, "response": done[name].text, "nll": nll.get(name)}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _plans(space: PersonaMap) -> list[tuple[str, float, Plan | None, Sequence[int]]]:
    norms, axis = space.response_norms, space.axis

    def steer(direction: np.ndarray, strength: float) -> Plan:
        return Plan((Steer(LAYER, direction, strength, float(norms[LAYER])),), None)

    plans: list[tuple[str, float, Plan | None, Sequence[int]]] = [("none", 0.0, None, range(PROMPTS))]
    for size in (0.25, 0.35, 0.5, 0.7, 1.0):
        plans += [("axis", s, steer(axis[LAYER], s), range(PROMPTS)) for s in (size, -size)]
    for size in (0.35, 0.5, 0.7, 1.0):
        for draw in range(2):
            direction = np.random.default_rng(100 + draw).normal(size=axis.shape[1])
            plans.append((f"random {draw}", size, steer(direction, size), range(draw, PROMPTS, 4)))
    for size in (0, 2, 6):
        ops: list[Op] = []
        for layer in range(14, 22):
            unit = axis[layer] / np.linalg.norm(axis[layer])
            floor = float(space.default_vector[layer] @ unit) + 0.05 * size * float(norms[layer])
            ops.append(Cap(layer, unit, floor=floor))
        plans.append(("cap", 0.05 * size, Plan(tuple(ops), None), range(1, PROMPTS, 3)))
    return plans


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        PAGE.write_text(page(), encoding="utf-8")
        print(PAGE.read_text(encoding="utf-8"))
