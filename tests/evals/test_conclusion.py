"""What is called an effect: only what beats every kind of control, in words that name the one it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval_case import Recording, RuleJudge, corpus, engine, tiny_run
from personascope.directions import CONTROLS, Control, nearest_roles
from personascope.errors import StoreError
from personascope.evals import (
    PLAIN,
    Condition,
    Trials,
    conclude,
    control_counts,
    evaluation_table,
    label_measure,
    make_table,
    read_evaluation,
    run_evaluation,
    steering_conditions,
    susceptibility_trials,
)
from personascope.evals._rows import ConditionRows
from personascope.interventions import Steer
from personascope.mapping import MAP
from personascope.space import PersonaMap
from personascope.stats import against_draws, paired_difference
from personascope.text import coherence

ROLES = [f"role{number % 20}" for number in range(200)]
NORMS = np.full(5, 3.0)


def hits(share: float, seed: int = 0) -> np.ndarray:
    """Return 200 shuffled items of which a share are 1."""
    values = np.arange(200) < round(200 * share)
    return np.random.default_rng(seed).permutation(values).astype(float)


def compared(axis: float, plain: float, **kinds: tuple[float, ...]) -> Any:
    base, own = hits(plain, 1), hits(axis, 2)
    against = {
        kind: against_draws(own, [hits(s, 3 + n) for n, s in enumerate(draws)], ROLES, baseline=base)
        for kind, draws in kinds.items()
    }
    return conclude(paired_difference(own, base, ROLES), against)


def test_an_effect_beats_all_three_kinds() -> None:
    found = compared(0.7, 0.3, isotropic=(0.3, 0.32), shuffled=(0.25, 0.35), role_span=(0.4, 0.3))
    assert found.effect and found.beaten == CONTROLS
    assert found.words == "effect, beyond isotropic, shuffled and role-span controls"
    down = compared(0.1, 0.5, isotropic=(0.5, 0.45), shuffled=(0.5, 0.55), role_span=(0.4, 0.45))
    assert down.effect


@pytest.mark.parametrize(
    ("role_span", "why"),
    [
        ((0.72, 0.3), "one draw does more"),
        ((0.68, 0.66), "the pooled difference may be 0"),
        ((0.9, 0.95), "the controls do more"),
    ],
)
def test_what_beats_two_kinds_and_not_the_third_is_no_effect(
    role_span: tuple[float, float], why: str
) -> None:
    found = compared(0.7, 0.3, isotropic=(0.3, 0.32), shuffled=(0.25, 0.35), role_span=role_span)
    assert not found.effect, why
    assert (found.beaten, found.unbeaten) == (("isotropic", "shuffled"), ("role_span",))
    assert found.words == "no effect beyond role-span controls"


def test_controls_that_move_the_other_way_do_not_make_an_effect_of_no_difference() -> None:
    found = compared(0.5, 0.5, isotropic=(0.2, 0.2), shuffled=(0.2, 0.2), role_span=(0.2, 0.2))
    assert not found.effect and found.words == "no effect: not told from no plan"


def test_kinds_that_were_not_run_are_named_and_nothing_is_called_an_effect() -> None:
    found = compared(0.7, 0.3, isotropic=(0.3, 0.32))
    assert not found.effect and found.missing == ("shuffled", "role_span")
    assert (
        found.words == "no effect is called: beyond isotropic controls, shuffled and role-span not compared"
    )
    assert compared(0.7, 0.3).words == "no effect is called: there are no controls"
    both = compared(0.7, 0.3, isotropic=(0.7, 0.7), role_span=(0.7, 0.7))
    assert both.words == "no effect beyond isotropic and role-span controls"


def test_one_more_direction_like_the_controls_is_seldom_called_an_effect() -> None:
    rng = np.random.default_rng(5)
    called = 0
    for _ in range(150):
        # The axis is exchangeable with all six controls, and all of them do something.
        shares = 0.5 + 0.15 * rng.normal(size=7).clip(-3, 3)
        rows = (rng.random((7, 200)) < shares[:, None]).astype(float)
        base = (rng.random(200) < 0.5).astype(float)
        own, draws = rows[0], rows[1:].reshape(3, 2, 200)
        against = {
            kind: against_draws(own, list(pair), ROLES, baseline=base, n_boot=200)
            for kind, pair in zip(CONTROLS, draws, strict=True)
        }
        called += conclude(paired_difference(own, base, ROLES, n_boot=200), against).effect
    # Chance alone puts it first or last of seven in 2 of 7; the intervals leave fewer.
    assert called <= 150 * 2 / 7


def rows_of(name: str, kind: str, values: np.ndarray, of: tuple[str, ...] = (), control: Any = None) -> Any:
    said = coherence("A short answer.", prompt="Who?")
    rows = [
        {
            "trial": f"t{n}",
            "group": ROLES[n],
            "variant": "identity",
            "perplexity": None,
            "coherence": said,
            "incoherent": False,
            "high_perplexity": None,
            "plan": None,
            "plan_tokens": None,
            "capped_tokens": None,
            "labels": {"r": "yes" if value else "no"},
        }
        for n, value in enumerate(values)
    ]
    return ConditionRows("test", name, kind, None, 0 if of else None, of, control, rows)


def test_a_table_compares_each_kind_on_its_own_and_says_what_is_not_beaten() -> None:
    conditions = [
        rows_of("plain", "plain", hits(0.3, 1)),
        rows_of("cap", "plan", hits(0.7, 2)),
        *(rows_of(f"random {n}", "random", hits(0.3, 3 + n), ("cap",), "isotropic") for n in range(2)),
        rows_of("shuffled 0", "random", hits(0.35, 6), ("cap",), "shuffled"),
        rows_of("role-span 0", "random", hits(0.72, 7), ("cap",), "role_span"),
    ]
    table = make_table("test", conditions, [label_measure("r", "yes")])
    found = table.get("cap", "yes")
    assert {kind: len(one.draws) for kind, one in found.against_controls.items()} == {
        "isotropic": 2,
        "shuffled": 1,
        "role_span": 1,
    }
    assert found.conclusion is not None
    assert found.conclusion.words == "no effect beyond role-span controls"
    assert table.get("plain", "yes").conclusion is table.get("role-span 0", "yes").conclusion is None
    assert table.get("role-span 0", "yes").control == "role_span"
    saved = json.loads(json.dumps(table.as_dict(), allow_nan=False))
    (row,) = [r for r in saved["results"] if (r["condition"], r["measure"]) == ("cap", "yes")]
    assert row["conclusion"]["effect"] is False and row["conclusion"]["unbeaten"] == ["role_span"]


def found() -> PersonaMap:
    return PersonaMap.open(tiny_run() / MAP)


def trials() -> Trials:
    return susceptibility_trials(corpus(), nearest_roles(found(), 2), prompts=1, max_new_tokens=3)


def test_steering_has_two_controls_of_each_kind_at_each_size() -> None:
    made = steering_conditions(found(), [-1, -0.5, 0, 0.5], NORMS)
    assert [c.name for c in made] == [
        *("plain", "axis -1", "axis -0.5", "axis +0.5"),
        *("random 0 at 0.5", "random 1 at 0.5", "shuffled 0 at 0.5", "shuffled 1 at 0.5"),
        *("role-span 0 at 0.5", "role-span 1 at 0.5"),
        *("random 0 at 1", "random 1 at 1", "shuffled 0 at 1", "shuffled 1 at 1"),
        *("role-span 0 at 1", "role-span 1 at 1"),
    ]
    axis = found().unit_axis(found().middle_layer)
    for condition in made[4:]:
        assert condition.plan is not None and condition.kind == "random"
        (op,) = condition.plan.ops
        assert isinstance(op, Steer)
        size = 0.5 if condition.name.endswith("0.5") else 1.0
        assert op.amount == pytest.approx(3.0 * size)
        assert condition.control_of == (("axis -0.5", "axis +0.5") if size == 0.5 else ("axis -1",))
        if condition.control == "role_span":
            assert abs(float(op.direction @ axis)) < 1e-6
    assert len({c.plan.digest for c in made if c.plan}) == 15
    assert control_counts(made) == "16 conditions, 12 of them controls (4 isotropic, 4 shuffled, 4 role-span)"
    assert control_counts(made[:2]) == "2 conditions"


def test_a_folder_of_isotropic_controls_goes_on_and_is_read_as_such(tmp_path: Path) -> None:
    made = engine()
    old = steering_conditions(found(), [0.5], NORMS, n_random=2, controls=["isotropic"])
    out = tmp_path / "e"
    run_evaluation(made, trials(), old, out=out, judge=RuleJudge())
    # A manifest of an earlier version names no kind.
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    for condition in manifest["notes"]["conditions"]:
        del condition["control"]
    del manifest["checksum"]
    path.write_text(json.dumps(manifest))
    recorder = Recording(made)
    run_evaluation(recorder, trials(), old, out=out, judge=RuleJudge())  # pyright: ignore
    assert recorder.ids == []
    rows = read_evaluation(out)
    assert [c.control for c in rows] == [None, None, "isotropic", "isotropic"]
    table = evaluation_table(out)
    result = table.get("axis +0.5", "assistant")
    assert list(result.against_controls) == ["isotropic"]
    assert result.conclusion is not None and not result.conclusion.effect
    assert "shuffled and role-span controls were not run, so nothing is called an effect" in table.notes
    with pytest.raises(StoreError, match=r"holds another run.*\n.*--controls isotropic --n-random 2"):
        run_evaluation(made, trials(), steering_conditions(found(), [0.5], NORMS), out=out, judge=RuleJudge())


def test_a_control_without_a_kind_is_isotropic() -> None:
    made = Condition("random 0 of it", "random", random_index=0, control_of=("it",))
    assert made.control == "isotropic" and PLAIN.control is None
    assert replace(made, control="shuffled").control == "shuffled"
    assert Control("isotropic", 0).name == "random 0"
