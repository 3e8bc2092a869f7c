"""The evaluations' figures: written whole in three formats, refused when the numbers do not fit together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import matplotlib as mpl
import pytest

from personascope.errors import StoreError, UsageError
from personascope.report.figures._data import (
    CompletionsData,
    ConditionRow,
    ConditionsData,
    Estimate,
    ParetoData,
    ParetoPoint,
    Series,
    SusceptibilityData,
)
from personascope.report.figures._evaluation import (
    completions_figure,
    conditions_figure,
    pareto_figure,
    susceptibility_figure,
)
from personascope.report.figures._style import LABEL_LOOKS, looks

STRENGTHS = [-0.5, -0.25, 0.0, 0.25]
MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@dataclass
class Found:
    """As the evaluations give it."""

    estimate: float
    low: float
    high: float
    n: int = 10


def series(values):
    return Series(values, [v - 0.02 for v in values], [v + 0.02 for v in values])


def susceptibility():
    shares = {
        "assistant": [0.1, 0.3, 0.6, 0.9],
        "mystical": [0.5, 0.3, 0.1, 0.0],
        "other": [0.4, 0.4, 0.3, 0.1],
    }
    return SusceptibilityData(
        STRENGTHS,
        shares,
        {name: series(shares[name]) for name in ("assistant", "mystical")},
        n=1000,
        n_roles=50,
        title="Steering of a model",
        controls={"assistant": {"isotropic": [[0.5, 0.6], [0.55, 0.5]], "role-span": [[0.6, 0.6]]}},
        control_strengths=[-0.5, 0.25],
        incoherent=[0.3, 0.1, 0.0, 0.0],
    )


def pareto():
    points = [
        ParetoPoint(
            f"layers 1:{i}", Estimate(i / 10, i / 10 - 0.02, i / 10 + 0.02), Estimate(-i / 50, -1.0, 1.0)
        )
        for i in range(1, 6)
    ]
    control = ParetoPoint("random", Estimate(0.0, -0.1, 0.1), Estimate(-0.1, math.nan, math.nan))
    controls = {"shuffled": [control]}
    return ParetoData(points, [0, 2, 4], 2, "Reduction", "Change", "40 answers", "A sweep", controls)


def conditions():
    row = ConditionRow(
        "Harmful answers",
        Estimate(0.4, 0.3, 0.5),
        Estimate(0.2, 0.1, 0.3),
        {"isotropic": [Estimate(0.4, 0.3, 0.5)] * 3, "shuffled": [Estimate(0.5, 0.4, 0.6)]},
        200,
    )
    perplexity = replace(row, name="Perplexity", share=False, unit="median", better="lower", draws={})
    return ConditionsData([row, perplexity], "layers 3:5", "A model")


def completions():
    lines = {name: series([0.1, 0.2, 0.3, 0.2]) for name in ("therapist", "priest", "count", "what")}
    controls = {"priest": {"role-span": [[0.1] * 4]}}
    return CompletionsData(STRENGTHS, lines, 400, "A base model", controls=controls)


FIGURES = [
    (susceptibility_figure, susceptibility),
    (pareto_figure, pareto),
    (conditions_figure, conditions),
    (completions_figure, completions),
]


@pytest.mark.parametrize(("draw", "data"), FIGURES)
@pytest.mark.parametrize("suffix", MAGIC)
def test_each_figure_is_written_in_each_format_the_same_twice(tmp_path, draw, data, suffix) -> None:
    for name in ("a", "b"):
        draw(tmp_path / f"{name}{suffix}", data())
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert first.startswith(MAGIC[suffix]) and len(first) > 4000
    assert first == second
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_the_words_of_a_figure_are_in_it(tmp_path) -> None:
    def text(draw, data):
        draw(tmp_path / "figure.svg", data)
        return (tmp_path / "figure.svg").read_text(encoding="utf-8")

    page = text(susceptibility_figure, susceptibility())
    for words in (
        *("n = 1,000 answers of 50 roles", "mystical, axis"),
        *("assistant, 2 isotropic controls", "assistant, 1 role-span control"),
    ):
        assert words in page
    assert "incoherent, axis" in page
    assert "incoherent" not in text(susceptibility_figure, replace(susceptibility(), incoherent=None))
    page = text(pareto_figure, pareto())
    assert "layers 1:3  (recommended)" in page and "layers 1:1" in page and "shuffled controls" in page
    # Only the front and the recommended plan are named.
    assert "layers 1:2" not in page and "layers 1:4" not in page
    page = text(conditions_figure, conditions())
    assert "Harmful answers (n = 200)" in page
    assert "3 isotropic controls" in page and "1 shuffled control" in page
    assert "Perplexity (n = 200, lower is better)" in page
    page = text(completions_figure, completions())
    assert "n = 400 completions" in page and "1 role-span control" in page and "therapist" in page
    assert "hatched" not in text(completions_figure, replace(completions(), controls={}))


def test_neither_the_settings_of_a_notebook_nor_a_figure_change_each_other(tmp_path) -> None:
    susceptibility_figure(tmp_path / "a.png", susceptibility())
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.dpi": 30}):
        before = dict(mpl.rcParams)
        susceptibility_figure(tmp_path / "b.png", susceptibility())
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("name", ["figure.jpg", "figure", "figure.png.gz"])
def test_another_format_is_refused_before_anything_is_drawn(tmp_path, name) -> None:
    with pytest.raises(UsageError, match=name):
        pareto_figure(tmp_path / name, pareto())
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path) -> None:
    with pytest.raises(StoreError):
        pareto_figure(tmp_path / "missing" / "figure.png", pareto())
    assert not list(tmp_path.iterdir())


def test_an_upper_case_suffix_is_the_same_format(tmp_path) -> None:
    conditions_figure(tmp_path / "A.PNG", conditions())
    assert (tmp_path / "A.PNG").read_bytes().startswith(MAGIC[".png"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Series([0.1], [0.0], []), "high has 0 values"),
        (
            lambda: replace(susceptibility(), shares={"human": [0.1]}),
            "human has 1 values, and the strengths are 4",
        ),
        (lambda: replace(susceptibility(), lines={"human": series([0.1])}), "human has 1 values"),
        (lambda: replace(susceptibility(), incoherent=[0.1]), "incoherent has 1"),
        (
            lambda: replace(susceptibility(), controls={"assistant": {"shuffled": [[0.1, 0.2], [0.1]]}}),
            "assistant, shuffled 1 has 1",
        ),
        (lambda: replace(susceptibility(), controls={"other": {"shuffled": [[0.1, 0.2]]}}), "'other'"),
        (lambda: replace(susceptibility(), controls={"assistant": {"shuffled": []}}), "0 draws"),
        (lambda: replace(susceptibility(), strengths=[0.5, 0.0, 0.1, 0.2]), "rising"),
        (lambda: replace(pareto(), front=[7]), "plan 7"),
        (lambda: replace(pareto(), recommended=-1), "plan -1"),
        (lambda: replace(pareto(), points=[]), "no points"),
        (lambda: replace(conditions(), rows=[]), "no rows"),
        (lambda: replace(completions(), lines={}), "no lines"),
        (lambda: replace(completions(), strengths=[]), "rising"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused_by_name(make, words) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_intervals_of_the_evaluations_are_taken_as_they_are() -> None:
    assert Estimate.of(Found(0.5, 0.4, 0.6)) == Estimate(0.5, 0.4, 0.6)
    assert Series.of([Found(0.5, 0.4, 0.6), Found(0.7, 0.6, 0.8)]) == Series(
        [0.5, 0.7], [0.4, 0.6], [0.6, 0.8]
    )


def test_labels_have_looks_of_their_own() -> None:
    assert len(set(looks(list(LABEL_LOOKS)))) == len(LABEL_LOOKS)
    many = looks(["assistant", "one", "two", "three"])
    assert many[0] == LABEL_LOOKS["assistant"] and len(set(many)) == 4


def test_a_sweep_without_limits_or_recommendation_is_drawn(tmp_path) -> None:
    bare = [ParetoPoint("one", Estimate(0.1, math.nan, math.nan), Estimate(0.0, math.nan, math.nan))]
    pareto_figure(
        tmp_path / "one.png", replace(pareto(), points=bare, front=[0], recommended=None, controls={})
    )
    assert (tmp_path / "one.png").stat().st_size > 4000
