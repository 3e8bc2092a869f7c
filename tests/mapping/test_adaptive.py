"""Maps that stop when they know enough: the order, the rule, the record, and going on after a stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import fakes
import numpy as np
import pytest

from personascope.engines import Completion, Request
from personascope.errors import SpaceError, StoreError, UsageError
from personascope.mapping import PROFILES, Profile, build_design, estimate, plan_run, read_until, run_map
from personascope.mapping._adaptive import as_adaptive
from personascope.mapping._policy import met, next_round
from personascope.mapping._rounds import Round, Rounds
from personascope.mapping._until import Until, check_until
from personascope.space import CurvePoint, PersonaMap
from personascope.store import RunFolder, read_json, write_json

PROFILE = replace(PROFILES["standard"], questions=18, default_samples=3, longest=None, keep=40)
CORPUS = fakes.corpus(30, 20)


def engine() -> fakes.FakeEngine:
    return fakes.FakeEngine(n_layers=4, d_model=16)


def make(out: Path, until, *, by=None, judge=None, profile: Profile = PROFILE, **options):
    return run_map(
        by or engine(),
        CORPUS,
        profile,
        out=out,
        judge=judge or fakes.FakeJudge(),
        until=until,
        progress=False,
        n_boot=10,
        **options,
    )


def rows(out: Path) -> list[dict]:
    folder = RunFolder.read(out)
    return [row for index in sorted(folder.units) for row in folder.rows(index).to_pylist()]


def everything(out: Path) -> tuple:
    """What must be equal of two runs, to the last bit."""
    tensors = (out / "map" / "map.safetensors").read_bytes()
    return rows(out), (out / "rounds.json").read_bytes(), tensors


@pytest.mark.parametrize("profile", [PROFILE, replace(PROFILE, crossed=True, prompts=None, questions=6)])
def test_every_rollout_is_one_of_the_whole_design_once(profile: Profile) -> None:
    design = build_design(CORPUS, profile, 3, "m")
    rounds = Rounds(design)
    asked = [one for part in rounds.take(Round("opening")) for one in part]
    counts = [(rounds.asked.min(), rounds.asked.max())]
    while rounds.can("balanced") or rounds.can("default"):
        kind = "default" if rounds.can("default") and len(counts) % 3 == 0 else "balanced"
        made = Round(kind if rounds.can(kind) else "default")
        cost = rounds.cost(made)
        taken = [one for part in rounds.take(made) for one in part]
        assert cost == len(taken) > 0
        asked += taken
        counts.append((rounds.asked.min(), rounds.asked.max()))
    # Ids, prompts and folds are those of the fixed design.
    assert sorted(asked, key=lambda one: one.id) == sorted(design, key=lambda one: one.id)
    assert all(least == most for least, most in counts)


def test_a_round_is_balanced_over_questions_and_prompts() -> None:
    design = build_design(fakes.corpus(60, 20), PROFILE, 1, "m")
    rounds = Rounds(design)
    _, roles = rounds.take(Round("opening"))
    assert rounds.opening == PROFILE.min_fully == 4
    by_role: dict[str, set[int]] = {}
    for one in roles:
        by_role.setdefault(one.role, set()).add(design.fold_design.prompts[one.fold])
    # With three slots, four rollouts of a role lie in all three.
    assert all(len(slots) == 3 for slots in by_role.values())
    _, roles = rounds.take(Round("balanced"))
    questions, sizes = np.unique([one.question_index for one in roles], return_counts=True)
    # 60 roles, about 20 to a question.
    assert len(questions) == 3 and sizes.max() - sizes.min() <= 1
    asked = {one.question_index for one in roles}
    assert rounds.questions == 15 and asked <= set(design.questions)


def test_an_adaptive_run_asks_the_first_rollouts_of_the_order(tmp_path: Path) -> None:
    by = engine()
    found = make(tmp_path / "run", {"axis": 0.6}, by=by)
    curve = found.collected.curve
    assert curve is not None and curve.stop == "axis=0.6" and curve.reached
    assert not found.collected.partial and found.collected.rollouts < found.collected.total
    design = plan_run(by.info, CORPUS, PROFILE)
    fixed = {one.id: one for one in design}
    for row in rows(tmp_path / "run"):
        one = fixed[row["id"]]
        assert (row["fold"], row["prompt_index"], row["seed"]) == (one.fold, one.prompt_index, design.seed)
    # All rounds were balanced here, so the order is that of the rounds.
    rounds = Rounds(design)
    asked: list[str] = []
    for point in curve.points:
        assert point.kind in ("opening", "balanced", "default")
        default, roles = rounds.take(Round(point.kind))  # pyright: ignore[reportArgumentType]
        asked += [one.id for one in default + roles]
    assert [row["id"] for row in rows(tmp_path / "run")] == asked
    assert [point.rollouts for point in curve.points][-1] == len(asked) == len(set(by.generated))
    assert PersonaMap.open(tmp_path / "run").curve == curve
    again = engine()
    assert make(tmp_path / "run", "axis=0.6", by=again).collected.curve == curve and not again.generated


class Dies(fakes.FakeEngine):
    """Ends after some responses as a killed process does."""

    left = 0

    def run(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for completion in super().run(requests):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield completion


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    until = ["roles=0.35", "tokens=1800"]
    make(tmp_path / "calm", until)
    calm = everything(tmp_path / "calm")
    assert len({point["kind"] for point in read_json(tmp_path / "calm" / "rounds.json")["points"]}) >= 2
    kills = 0
    for more in (0, 7, 60, 150, 400):
        for _ in range(12):
            by = Dies(n_layers=4, d_model=16)
            by.left = more
            try:
                make(tmp_path / f"killed{more}", until, by=by)
                break
            except KeyboardInterrupt:
                kills += 1
        make(tmp_path / f"killed{more}", until)
        assert everything(tmp_path / f"killed{more}") == calm
    assert kills > 15


def test_scores_that_are_missing_are_awaited(tmp_path: Path) -> None:
    make(tmp_path / "calm", {"axis": 0.6})
    halted = make(tmp_path / "run", {"axis": 0.6}, judge=fakes.FakeJudge(failing=10))
    assert halted.collected.partial and halted.collected.unscored > 0
    assert halted.collected.curve is not None and not halted.collected.curve.stop
    whole = make(tmp_path / "run", {"axis": 0.6})
    assert not whole.collected.partial
    assert read_json(tmp_path / "run" / "rounds.json") == read_json(tmp_path / "calm" / "rounds.json")
    assert [row["score"] for row in rows(tmp_path / "run")] == [
        row["score"] for row in rows(tmp_path / "calm")
    ]


def test_a_budget_stops_after_the_round_in_which_it_is_passed_and_a_larger_one_goes_on(
    tmp_path: Path,
) -> None:
    first = make(tmp_path / "run", ["tokens=700"]).collected
    assert first.curve is not None and first.curve.stop == "tokens=700" and not first.curve.reached
    assert not first.partial
    before, last = first.curve.points[-2:]
    assert before.tokens < 700 <= last.tokens
    by = engine()
    more = make(tmp_path / "run", ["tokens=1000"], by=by).collected
    assert more.curve is not None and more.curve.points[: len(first.curve.points)] == first.curve.points
    assert more.rollouts == first.rollouts + len(by.generated)
    make(tmp_path / "at once", ["tokens=1000"])
    assert everything(tmp_path / "at once") == everything(tmp_path / "run")
    # A budget may end before there is enough for a map; a larger one goes on from there.
    with pytest.raises(SpaceError, match="minutes=1e-09 stopped the run after 1 round"):
        make(tmp_path / "quick", {"minutes": 1e-9})
    make(tmp_path / "quick", ["tokens=1000"])
    assert everything(tmp_path / "quick") == everything(tmp_path / "run")


def test_what_the_whole_design_cannot_reach_is_said(tmp_path: Path) -> None:
    found = make(tmp_path / "run", {"axis": 0.99999})
    got = found.collected
    assert got.curve is not None and got.curve.stop == "maximum" and not got.curve.reached
    assert not got.partial and got.rollouts == got.total == len(rows(tmp_path / "run"))
    assert found.space is not None


def test_a_run_of_another_goal_is_another_run(tmp_path: Path) -> None:
    make(tmp_path / "run", ["axis=0.6"])
    with pytest.raises(StoreError, match=r"another run: .*until"):
        make(tmp_path / "run", ["axis=0.7"])
    with pytest.raises(StoreError, match="another run"):
        make(tmp_path / "run", None)


def test_lost_or_foreign_rounds_are_an_error(tmp_path: Path) -> None:
    make(tmp_path / "run", ["tokens=700"])
    path = tmp_path / "run" / "rounds.json"
    record = read_json(path)
    path.unlink()
    with pytest.raises(StoreError, match="does not fit the units"):
        make(tmp_path / "run", ["tokens=700"])
    write_json(path, record | {"rounds": record["rounds"][:1]})
    with pytest.raises(StoreError, match="was changed"):
        make(tmp_path / "run", ["tokens=700"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("axis", "names no value"),
        ("axis=much", "is no number"),
        ("axis=1", "cannot be reached"),
        ("axis=nan", "is no number"),
        ("roles=-0.3", "cannot be reached"),
        ("tokens=0", "cannot be reached"),
        ("luck=3", "until 'luck'"),
        (["axis=0.9", "axis=0.8"], "given twice"),
        ({"axis": True}, "is no number"),
    ],
)
def test_wrong_criteria(given, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_until(given)


def test_money_needs_prices() -> None:
    check_until(Until(axis=0.9), None)
    for judge in (None, fakes.FakeJudge()):
        with pytest.raises(UsageError, match=r"cost=1\.5 has no prices"):
            check_until(Until(cost=1.5), judge)


def test_criteria_are_read_from_text_and_values() -> None:
    assert read_until(None) is None and read_until([]) is None
    until = read_until(["axis=0.95", "tokens=2e6"])
    assert until == Until(axis=0.95, tokens=2e6) == read_until({"axis": 0.95, "tokens": 2_000_000})
    assert until is not None and until.texts == ("axis=0.95", "tokens=2000000")
    assert until.goals == {"axis": 0.95}


def test_one_good_look_does_not_stop() -> None:
    def look(low: float | None, wide: float | None = 1.0) -> CurvePoint:
        return CurvePoint(1, "balanced", 10, 100, 30, low, low, wide, wide)

    until = Until(axis=0.9, roles=0.3)
    assert met(until, [look(0.95)]) == ""
    assert met(until, [look(0.95), look(0.89)]) == met(until, [look(None), look(0.95)]) == ""
    assert met(until, [look(0.8), look(0.91), look(0.9)]) == "axis=0.9"
    # A half-width counts with its margin.
    assert met(until, [look(0.5, 0.24), look(0.5, 0.24)]) == "roles=0.3"
    assert met(until, [look(0.5, 0.25), look(0.5, 0.24)]) == ""


def test_the_widest_roles_or_the_default_come_next_where_they_help_more() -> None:
    from personascope.space import Precision

    design = build_design(CORPUS, replace(PROFILE, role_information=False), 1, "m")
    rounds = Rounds(design)
    rounds.take(Round("opening"))
    names = tuple(sorted(role.name for role in design.roles))
    count = len(names)

    def look(half: np.ndarray, axis_part: float, noise: float) -> Precision:
        nothing = np.full(count, axis_part)
        return Precision(names, 0.5, 0.5, half, nothing, noise, 0.1, 1.0, np.full(count, 4), rounds.questions)

    wide = np.full(count, 0.2)
    wide[3:6] = 0.8
    made = next_round(Until(roles=0.3), rounds, look(wide, 0.0, 0.5))
    assert made is not None and made.kind == "widest" and set(made.roles) == set(names[3:6])
    every = next_round(Until(roles=0.3), rounds, look(np.full(count, 0.8), 0.0, 0.5))
    assert every is not None and every.kind == "balanced"
    # Where single responses of the default are all that is left, more of them help most for their number.
    noisy = look(wide, 0.0, 1.0 / (rounds.of_default * rounds.questions) + 1.1 / (4 * count))
    few = replace(noisy, responses=np.full(count, 4000), noise=1.0 / (rounds.of_default * rounds.questions))
    made = next_round(Until(axis=0.99), rounds, few)
    assert made is not None and made.kind == "default"


def test_a_dry_run_says_what_a_precision_will_cost() -> None:
    by = engine()
    design = plan_run(by.info, CORPUS, PROFILE, until=Until(axis=0.6))
    found = estimate(by, design, judge=None, probe=0)
    assert found.expected is not None
    assert 150 < found.expected.least <= found.expected.most <= found.expected.whole == len(design)
    much = estimate(by, as_adaptive(design, Until(axis=0.999), "played"), judge=None, probe=0).expected
    assert much is not None and much.least == much.most == len(design)
    assert estimate(by, plan_run(by.info, CORPUS, PROFILE), judge=None, probe=0).expected is None


def test_a_fixed_map_has_the_curve_of_its_blocks(tmp_path: Path) -> None:
    found = make(tmp_path / "run", None)
    curve = PersonaMap.open(tmp_path / "run").curve
    assert curve is not None and found.collected.curve is None
    assert (curve.until, curve.stop, curve.layer) == ((), "", 2)
    assert [point.round for point in curve.points] == list(range(2, 13))
    last = curve.points[-1]
    assert last.rollouts == len(rows(tmp_path / "run"))
    assert last.split_half is not None and math.isclose(
        last.split_half, PersonaMap.open(tmp_path / "run").stats.split_half[2], abs_tol=0.05
    )
    assert (curve.points[0].split_half, curve.points[0].vectors) == (None, 0)
    known = [point.vectors for point in curve.points if point.split_half is not None]
    assert known == sorted(known) and known[0] >= known[-1] / 2
    assert all(one.tokens < two.tokens for one, two in pairwise(curve.points))
