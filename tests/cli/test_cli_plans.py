"""Plans on the command line: from a map to steering, a cap, evaluations and a sweep, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_case import save_model, write_corpus

from helpers.cli import personascope
from personascope.interventions import Plan, Steer


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, a corpus and the run of its map."""
    folder = tmp_path_factory.mktemp("plans")
    save_model(folder / "model")
    write_corpus(folder / "corpus")
    ran = personascope(
        *("map", folder / "model", "--corpus", folder / "corpus", "--profile", "quick", "--judge", "none"),
        *("--out", folder / "run", "--questions", "4", "--default-samples", "4", "--dtype", "float32"),
    )
    assert ran.code == 0, ran.err
    return folder


def test_answers_at_several_strengths_stand_side_by_side(mapped: Path) -> None:
    ran = personascope(
        "steer", mapped / "run", "--anyway", "--strengths", "-2,0,2", "--random", "--dtype", "float32"
    )
    assert ran.code == 0, ran.err
    for name in ("-2", "-2 random", "0", "+2", "+2 random"):
        assert name in ran.out
    assert "shuffled" not in ran.out
    kinds = ("--controls", "shuffled,role-span", "--n-random", "1", "--strengths", "2")
    ran = personascope("steer", mapped / "run", "--anyway", *kinds, "--dtype", "float32")
    assert ran.code == 0, ran.err
    assert "+2 shuffled" in ran.out and "+2 role-span" in ran.out and "random" not in ran.out
    record = json.loads((mapped / "run" / "norms.json").read_text())
    assert record["source"] == "builtin"
    assert len(record["mean"]) == 5


def test_a_map_without_an_axis_is_not_acted_on_unless_told_to(mapped: Path) -> None:
    run = mapped / "run"
    shown = personascope("show", run)
    assert shown.out.splitlines()[1].startswith("Is there an axis?") and "NOT FOUND" in shown.out
    for args in (
        ("steer", run),
        ("plan", "steer", run, "--out", mapped / "none", "--", "-0.5"),
        ("plan", "cap", run, "--out", mapped / "none", "--axis-percentile", "75"),
        ("calibrate", run),
    ):
        ran = personascope(*args)
        assert ran.code == 1 and "found no axis" in ran.err and "--anyway" in ran.err, ran.err
    assert not (mapped / "none").exists()


def test_plans_are_made_explained_and_applied(mapped: Path) -> None:
    run = mapped / "run"
    made = personascope(
        "plan", "steer", run, "--anyway", "--out", mapped / "p1", "--layer", "1", "--", "-0.5"
    )
    assert made.code == 0, made.err
    (op,) = Plan.load(mapped / "p1").ops
    assert isinstance(op, Steer)
    assert (op.layer, op.strength) == (1, -0.5)
    cap = ("plan", "cap", run, "--anyway", "--layers", "1:4")
    one = personascope(*cap, "--out", mapped / "p2", "--axis-percentile", "75")
    other = personascope(*cap, "--out", mapped / "p3", "--released-percentile", "25")
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert Plan.load(mapped / "p2").digest == Plan.load(mapped / "p3").digest
    control = personascope("plan", "random", run, mapped / "p2", "--out", mapped / "p4", "--draw", "1")
    assert control.code == 0, control.err
    own, other = Plan.load(mapped / "p2"), Plan.load(mapped / "p4")
    assert other.layers == own.layers and other.digest != own.digest
    assert len({op.direction.tobytes() for op in other.ops}) == 1
    spanned = personascope(
        *("plan", "random", run, mapped / "p2", "--out", mapped / "p5", "--control", "role-span")
    )
    assert spanned.code == 0, spanned.err
    third = Plan.load(mapped / "p5")
    assert third.name == f"role-span 0 of {own.name}" and third.layers == own.layers
    assert len({op.direction.tobytes() for op in third.ops}) == 3
    for op, same in zip(own.ops, third.ops, strict=True):
        assert abs(float(op.direction @ same.direction)) < 1e-6
    told = personascope("plan", "explain", mapped / "p2")
    assert told.code == 0
    assert told.out.count("hold the projection on the direction at or above") == 3
    ran = personascope("steer", run, "--plan", mapped / "p2", "--dtype", "float32")
    assert ran.code == 0, ran.err
    assert "caps fired on" in ran.out


def test_an_evaluation_prints_its_table_with_controls_and_draws_its_figure(mapped: Path) -> None:
    run, out = mapped / "run", mapped / "sus"
    args = (
        *("evaluate", "susceptibility", run, "--out", out, "--corpus", mapped / "corpus", "--roles", "2"),
        *("--prompts", "1", "--strengths", "-2,0,2", "--n-random", "1", "--dtype", "float32"),
    )
    unlabelled = personascope(*args, "--judge", "none")
    assert unlabelled.code == 0, unlabelled.err
    assert "nothing is labelled yet" in unlabelled.out
    ran = personascope(*args)
    assert ran.code == 0, ran.err
    assert "9 conditions" not in ran.err and "6 conditions, 3 of them controls" in ran.err
    for words in ("random 0 at 2", "shuffled 0 at 2", "role-span 0 at 2", "against controls"):
        assert words in ran.out
    assert "no effect" in ran.out
    assert "60 of 60 responses are labelled" in ran.out
    results = json.loads((out / "results.json").read_text())
    kinds = {(r["kind"], r["measure"]) for r in results["results"]}
    assert {("plain", "assistant"), ("axis", "mystical"), ("random", "incoherent")} <= kinds
    axis = [r for r in results["results"] if r["kind"] == "axis" and r["measure"] == "assistant"]
    for r in axis:
        assert r["against_plain"]["n"] == 8 and r["conclusion"]["effect"] is False
        assert set(r["against_controls"]) == {"isotropic", "shuffled", "role_span"}
        assert all(len(found["draws"]) == 1 for found in r["against_controls"].values())
    assert (out / "susceptibility.png").read_bytes().startswith(b"\x89PNG")
    again = personascope(*args)
    assert again.code == 0, again.err
    other = personascope(*args, "--seed", "1")
    assert other.code == 1
    assert "holds another run" in other.err
    assert "seed is 0 there and 1 here" in other.err


def test_a_plan_is_evaluated_against_controls_of_its_own(mapped: Path) -> None:
    run = mapped / "run"
    personascope(
        "plan", "cap", run, "--anyway", "--out", mapped / "p4", "--layers", "1:4", "--axis-percentile", "75"
    )
    ran = personascope(
        *("evaluate", "coherence", run, "--out", mapped / "coh", "--plan", mapped / "p4", "--n-random", "1"),
        *("--limit", "3", "--dtype", "float32"),
    )
    assert ran.code == 0, ran.err
    assert "caps fired on" in ran.out
    assert all(f"{kind} 0 of cap" in ran.out for kind in ("random", "shuffled", "role-span"))
    results = json.loads((mapped / "coh" / "results.json").read_text())
    shares = {h["condition"]: h["firing_share"] for h in results["health"]}
    assert shares["plain"] is None
    assert all(share is not None for name, share in shares.items() if name != "plain")


def test_a_sweep_ends_with_a_recommendation_or_says_why_not(mapped: Path) -> None:
    run, out = mapped / "run", mapped / "cal"
    args = (
        *(
            "calibrate",
            run,
            "--anyway",
            "--out",
            out,
            "--corpus",
            mapped / "corpus",
            "--windows",
            "1:3",
            "--roles",
            "2",
        ),
        *("--axis-percentiles", "50,90", "--jailbreaks", "2", "--questions", "8", "--dtype", "float32"),
        *("--controls", "role-span,isotropic", "--n-random", "1"),
    )
    ran = personascope(*args)
    assert ran.code == 0, ran.err
    assert "recommended" in ran.out
    record = json.loads((out / "calibration.json").read_text())
    assert [c["condition"] for c in record["cells"]] == [
        "cap 1:3 p50",
        "random 0 of cap 1:3 p50",
        "role-span 0 of cap 1:3 p50",
        "cap 1:3 p90",
        "random 0 of cap 1:3 p90",
        "role-span 0 of cap 1:3 p90",
    ]
    assert "2 caps with 2 controls each: 7 conditions" in ran.err
    assert (out / "pareto.png").exists()


def test_a_sweep_of_steering_stands_in_the_report(mapped: Path) -> None:
    run = mapped / "run"
    ran = personascope(
        *("calibrate", run, "--steer", "--anyway", "--corpus", mapped / "corpus", "--strengths=-0.1,-0.2"),
        *("--layers", "2", "--roles", "2", "--jailbreaks", "1", "--questions", "2", "--chats", "2"),
        *("--controls", "shuffled", "--n-random", "1", "--dtype", "float32"),
    )
    assert ran.code == 0, ran.err
    assert personascope("report", run, "--out", mapped / "steering.html").code == 0
    page = (mapped / "steering.html").read_text(encoding="utf-8")
    flat = page.replace(": ", ":")
    assert '"steering":{' in flat and '"strength":-0.2' in flat and '"away":true' in flat


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (("steer", "{run}", "--anyway", "--strengths", "a,b"), 2, "--strengths 'a,b'"),
        (("steer", "{run}", "--anyway", "--layer", "9"), 2, "layer 9 is not in the map"),
        (("steer", "{run}", "--plan", "{run}"), 1, "plan.json"),
        (("steer", "{run}", "--random", "--controls", "shuffled"), 2, "were both given"),
        (("steer", "{run}", "--anyway", "--controls", "sphere"), 2, "no control 'sphere'"),
        (("evaluate", "coherence", "{run}", "--controls", "isotropic,isotropic"), 2, "is given twice"),
        (("evaluate", "harm", "{run}", "--controls", "uniform"), 2, "no control 'uniform'"),
        (("calibrate", "{run}", "--controls", "uniform"), 2, "isotropic, shuffled, role-span"),
        (("calibrate", "{run}", "--strengths=-0.1"), 2, "--strengths is not for a sweep of caps"),
        (("calibrate", "{run}", "--layers", "3"), 2, "--layers is not for a sweep of caps"),
        (
            ("calibrate", "{run}", "--steer", "--windows", "0:2"),
            2,
            "--windows is not for a sweep",
        ),
        (("calibrate", "{run}", "--steer", "--axis-percentiles", "50"), 2, "--axis-percentiles is not for"),
        (("calibrate", "{run}", "--steer", "--population", "roles and traits"), 2, "--population is not"),
        (("calibrate", "{run}", "--steer", "--strengths=-0.1,0.1", "--anyway"), 2, "those of one sign"),
        (("calibrate", "{run}", "--steer", "--layers", "1,x"), 2, "no list of whole numbers"),
        (("plan", "cap", "{run}", "--out", "{run}/x"), 2, "one floor is needed"),
        (
            ("plan", "cap", "{run}", "--anyway", "--out", "{run}/x", "--axis-percentile", "101"),
            2,
            "less than or equal to",
        ),
        (
            (
                "plan",
                "cap",
                "{run}",
                "--anyway",
                "--out",
                "{run}/x",
                "--axis-percentile",
                "5",
                "--layers",
                "3:9",
            ),
            2,
            "no band of layers",
        ),
        (("evaluate", "susceptibility", "{run}", "--roles", "99"), 2, "99 roles were asked for"),
        (("evaluate", "susceptibility", "{run}/nothing"), 1, "does not exist"),
        (("evaluate", "jailbreak", "{run}", "--dataset", "{run}/none.csv"), 1, "none.csv"),
        (("evaluate", "jailbreak", "{run}", "--personas", "{run}/none.yaml"), 1, "none.yaml"),
        (("calibrate", "{run}", "--judge", "none", "--windows", "0:2"), 2, "needs a judge"),
    ],
)
def test_bad_input_is_named_with_its_mend(mapped: Path, args: tuple[str, ...], code: int, text: str) -> None:
    filled = [arg.replace("{run}", str(mapped / "run")) for arg in args]
    ran = personascope(*filled, "--dtype", "float32") if args[0] != "plan" else personascope(*filled)
    assert ran.code == code, ran.out + ran.err
    assert text in ran.err
    assert "Traceback" not in ran.err
