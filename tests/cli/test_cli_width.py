"""Tables at 80 columns: no word and no number is cut, whatever the names are."""

from __future__ import annotations

import pytest

from helpers.cli import personascope
from personascope.cli import _console
from personascope.cli._tables import print_table
from personascope.evals import Table
from personascope.evals._conclusion import Conclusion
from personascope.evals._tables import Health, Result
from personascope.stats import AgainstDraws, Difference, Interval

PLAN = "cap 12:20 at axis percentile 75"
SHARE = Interval(0.125, 0.001, 0.999, 1000, 50)
CHANGE = Difference(-0.125, -0.999, 0.999, 0.0001, 1000, 50)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_console.out, "_width", 80)


def results(condition: str, kind: str, control: str | None = None) -> list[Result]:
    pooled = AgainstDraws(0.125, (-0.125, 0.25), 0.0625, -0.5, 0.5, CHANGE, CHANGE, 0.3)
    against = dict.fromkeys(("isotropic", "shuffled", "role_span"), pooled) if kind == "plan" else {}
    said = Conclusion(False, (), ("isotropic",), (), "no effect: isotropic directions do as much")
    return [
        Result(
            condition, kind, None, measure, SHARE, 12, None if kind == "plain" else CHANGE, control, against,
            said if kind == "plan" else None,
        )
        for measure in ("assistant", "incoherent or high perplexity")
    ]  # fmt: skip


@pytest.mark.usefixtures("narrow")
def test_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        ("plain", "plain", None),
        (PLAN, "plan", None),
        (f"role-span 0 of {PLAN}", "random", "role_span"),
    ]
    table = Table(
        "susceptibility",
        tuple(one for name in names for one in results(*name)),
        tuple(Health(name[0], 123.4, SHARE, 0.37, 1000) for name in names),
        caveats={"assistant": "offline judge: finds 0 of 4 harmful"},
    )
    print_table(table)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in text
    for whole in (
        "0.001 to 0.999",
        "-0.999 to +0.999",
        "role-span",
        "caps fired on 37%",
        "unscored",
        "beaten",
    ):
        assert whole in text, whole
    # Perplexities stand under their own name.
    assert "perplexity" in next(line for line in lines if "repetition" in line)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("command", [["doctor"], ["corpus", "show"]])
def test_what_needs_no_model(command: list[str]) -> None:
    done = personascope(*command)
    assert "…" not in done.out and max(map(len, done.out.splitlines())) <= 80
