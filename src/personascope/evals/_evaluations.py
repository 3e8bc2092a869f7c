"""Measures of each evaluation, and the results table of a run folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from personascope.directions import CONTROLS, kind_label
from personascope.errors import UsageError
from personascope.evals._conclusion import kinds_listed
from personascope.evals._rows import ConditionRows, read_evaluation
from personascope.evals._tables import Measure, Table, label_measure, make_table
from personascope.judge import (
    ADMITS_ROLE_PLAY,
    HARMFUL,
    JAILBREAK,
    SELF_DESCRIPTION,
    SUSCEPTIBILITY,
    TRAITS,
    WEIGHTS,
    LabelWeights,
    harm_caveat,
    harm_warning,
)

RESULTS = "results.json"

SUSCEPTIBILITY_MEASURES: tuple[Measure, ...] = (
    *(label_measure(SUSCEPTIBILITY.name, label, variant="identity") for label in SUSCEPTIBILITY.labels),
    label_measure(ADMITS_ROLE_PLAY.name, "yes", variant="role_play", name="says that it role-plays"),
)

JAILBREAK_MEASURES: tuple[Measure, ...] = tuple(
    label_measure(JAILBREAK.name, labels, variant=variant, name=f"{name} {how}")
    for variant, how in (("persona", "with persona"), ("plain", "without persona"))
    for name, labels in (
        ("harmful", HARMFUL),
        ("refusal", frozenset({"refusal", "refusal_with_reasons"})),
        ("nonsensical", frozenset({"nonsensical"})),
    )
)

PRETRAINED_MEASURES: tuple[Measure, ...] = (
    *(label_measure(SELF_DESCRIPTION.name, label) for label in SELF_DESCRIPTION.labels),
    *(label_measure(TRAITS.name, label, name=f"trait: {label}") for label in TRAITS.labels),
)

_MEASURES: dict[str, tuple[Measure, ...]] = {
    "susceptibility": SUSCEPTIBILITY_MEASURES,
    "jailbreak": JAILBREAK_MEASURES,
    "pretrained": PRETRAINED_MEASURES,
    "coherence": (),
}


def evaluation_table(folder: Path, *, seed: int = 0) -> Table:
    """Return the results table of a run folder.

    Raises:
        StoreError: If the folder holds no run.
        UsageError: If the run is of an evaluation without a table.
        EvaluationError: If no condition is committed yet.
    """
    conditions = read_evaluation(folder)
    name = conditions[0].evaluation if conditions else ""
    if conditions and name not in _MEASURES:
        raise UsageError(f"{folder} holds a run of {name!r}", hint=f"give one of {', '.join(_MEASURES)}")
    measures = _MEASURES.get(name, ())
    notes: list[str] = []
    if any(measure.rubric for measure in measures):
        total = sum(len(c.rows) for c in conditions)
        notes.append(f"{label_counts(conditions)} of {total} responses are labelled")
    notes += _control_notes(conditions)
    given = Counter(judge for c in conditions for row in c.rows for judge in row["judges"].values())
    if given:
        told = ", ".join(f"{judge} {count}" for judge, count in sorted(given.items()))
        notes.append(f"labels by judge: {told}")
    notes += _offline_notes(conditions)
    return make_table(name, conditions, measures, notes=notes, caveats=harm_caveats(conditions), seed=seed)


def _control_notes(conditions: Sequence[ConditionRows]) -> list[str]:
    """Return a note on the controls and on what is called an effect; none if nothing was compared."""
    drawn = {(c.control, c.random_index) for c in conditions if c.control is not None}
    if not drawn:
        return []
    counts = Counter(kind for kind, _ in drawn)
    told = ", ".join(f"{counts[kind]} {kind_label(kind)}" for kind in CONTROLS if counts[kind])
    missing = [kind for kind in CONTROLS if not counts[kind]]
    notes = [
        f"controls: {told}; an effect lies beyond every one of them and differs from each kind, pooled, and "
        f"from no plan (95%). One more such direction would lie beyond all {len(drawn)} with probability "
        f"{2 / (len(drawn) + 1):.2f}; a larger --n-random makes it smaller"
    ]
    if missing:
        notes.append(f"{kinds_listed(missing)} controls were not run, so nothing is called an effect")
    return notes


def _offline_notes(conditions: Sequence[ConditionRows]) -> list[str]:
    """Return notes on the offline judge's agreement with human readers, for each rubric that it labelled."""
    used = sorted(
        {
            rubric
            for c in conditions
            for row in c.rows
            for rubric, judge in row["judges"].items()
            if judge == "rules"
        }
    )
    notes: list[str] = []
    for rubric in used:
        path = WEIGHTS / f"{rubric}.safetensors"
        if path.exists():
            facts = LabelWeights.load(path).facts
            held = facts["held_out"]
            notes.append(
                f"offline judge, {rubric}: kappa {held['kappa']:.2f} ({held['kappa_low']:.2f} to "
                f"{held['kappa_high']:.2f}) with readers on {held['answers']} held-out answers of "
                f"{', '.join(facts['models'])}"
            )
    if JAILBREAK.name in used:
        notes.append(harm_warning())
    return notes


def harm_caveats(conditions: Sequence[ConditionRows]) -> dict[str, str]:
    """Return caveats of the harmful shares by measure; empty unless the offline judge gave such a label."""
    offline = any(row["judges"].get(JAILBREAK.name) == "rules" for c in conditions for row in c.rows)
    names = [measure.name for measure in JAILBREAK_MEASURES if measure.name.startswith("harmful")]
    return dict.fromkeys(names, harm_caveat()) if offline else {}


def label_counts(conditions: Sequence[ConditionRows]) -> int:
    """Return the number of responses that have all their labels."""
    return Counter(row["status"] for c in conditions for row in c.rows)["scored"]
