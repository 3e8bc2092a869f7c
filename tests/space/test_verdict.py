"""The verdict: what each figure does to it, and which layer is taken for the middle."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from personascope.space import NUISANCES, MapChecks, OtherVectors, RolePlay, other_vectors
from personascope.space._checks import FOLLOWED
from personascope.space._verdict import choose_layer, verdict_at


def stats(**changes):
    """Figures of two layers that pass everything."""
    figures = {
        "cos_axis_pc1": 0.85,
        "cos_axis_pc1_corrected": 0.9,
        "cos_axis_pc1_interval": (0.75, 0.98),
        "null_q95": 0.5,
        "split_half": 0.9,
        "role_reliability": 0.7,
        "role_reliability_interval": (0.5, 0.8),
        "prompt_reliability": 0.8,
        "default_percentile": (0.99, 0.5),
        "default_position": (0.95, 0.5),
    } | changes
    return SimpleNamespace(**{name: np.array([value, value]) for name, value in figures.items()})


def checks(**changes) -> MapChecks:
    return replace(
        MapChecks(
            design="x (2)",
            profile={},
            vectors="played",
            threshold=0.1,
            roles={"a": RolePlay(10, 6, 0.3), "b": RolePlay(10, 2, 0.1)},
            cut=0.2,
            garbled=0.0,
            perplexity=4.0,
            correlations=np.zeros((2, len(NUISANCES), len(FOLLOWED))),
            n_roles=2,
        ),
        **changes,
    )


def test_all_in_order_is_found_three_times_without_a_warning():
    found = verdict_at(stats(), checks(), 1)
    assert (found.axis.grade, found.main.grade, found.default.grade) == ("found",) * 3
    assert found.warnings == () and found.layer == 1
    assert found.headline == "axis found; main component: found; default at its end: found"
    assert any("40% of the responses played" in reason for reason in found.axis.reasons)


@pytest.mark.parametrize(
    ("figures", "made", "grade", "first"),
    [
        ({"split_half": 0.7}, {}, "weak", "two halves"),
        ({"split_half": 0.4}, {}, "not found", "two halves"),
        ({"prompt_reliability": 0.5}, {}, "weak", "prompts' spread"),
        ({"prompt_reliability": 0.1}, {}, "not found", "prompts' spread"),
        ({"role_reliability": 0.1}, {}, "weak", "of the roles' spread"),
        ({"role_reliability_interval": (0.0, 0.8)}, {}, "weak", "of the roles' spread"),
        ({}, {"roles": {"a": RolePlay(100, 25, 0.1)}}, "weak", "25% of the responses played"),
        ({}, {"roles": {"a": RolePlay(100, 5, 0.0)}}, "not found", "5% of the responses played"),
        ({}, {"garbled": 0.8}, "not found", "80% of the responses are garble"),
        ({}, {"perplexity": 900.0}, "not found", "perplexity 900"),
        # Without a check of the roles the figures of the space decide, and it is said.
        ({}, {"roles": {}, "threshold": None}, "found", "two halves"),
        # A design that cannot tell prompts from responses: the roles must show an order.
        ({"prompt_reliability": np.nan}, {}, "found", "two halves"),
        ({"prompt_reliability": np.nan, "role_reliability": 0.1}, {}, "not found", "an unknown share"),
    ],
)
def test_the_axis_is_as_good_as_its_worst_figure(figures, made, grade, first):
    found = verdict_at(stats(**figures), checks(**made), 0).axis
    assert found.grade == grade
    assert first in found.reasons[0], found.reasons


@pytest.mark.parametrize(
    ("figures", "grade"),
    [
        ({}, "found"),
        ({"cos_axis_pc1_interval": (0.45, 0.98)}, "weak"),
        ({"cos_axis_pc1_corrected": 0.55}, "weak"),
        ({"cos_axis_pc1": 0.45, "cos_axis_pc1_interval": (0.3, 0.6)}, "not found"),
    ],
)
def test_the_main_component_is_held_against_the_null_and_the_paper(figures, grade):
    assert verdict_at(stats(**figures), checks(), 0).main.grade == grade


@pytest.mark.parametrize(("percentile", "grade"), [(0.96, "found"), (0.85, "weak"), (0.43, "not found")])
def test_the_default_is_held_against_the_roles(percentile, grade):
    assert verdict_at(stats(default_percentile=(percentile, 0.5)), checks(), 0).default.grade == grade


def test_the_three_are_apart():
    """As in Qwen3-0.6B: an axis that is the main component, and a default in the middle of it."""
    found = verdict_at(stats(default_percentile=(0.425, 0.5)), checks(), 0)
    assert (found.axis.grade, found.main.grade, found.default.grade) == ("found", "found", "not found")


def test_warnings_name_what_a_component_follows_and_what_is_thin():
    correlations = np.zeros((2, len(NUISANCES), len(FOLLOWED)))
    correlations[0, NUISANCES.index("length"), FOLLOWED.index("PC1")] = -0.71
    correlations[0, NUISANCES.index("first person"), FOLLOWED.index("PC2")] = 0.6
    made = checks(correlations=correlations, cut=0.9, vectors="rubric")
    found = verdict_at(stats(), made, 0).warnings
    assert found[0] == "PC1 follows length (r = -0.71 over 2 roles)"
    assert len(found) == 3 and "90%" in found[1] and "whether they played or not" in found[2]
    assert len(verdict_at(stats(), made, 1).warnings) == 2


def test_a_map_of_the_first_design_has_no_verdict():
    for found in (verdict_at(stats(), None, 0), verdict_at(stats(role_reliability=np.nan), checks(), 0)):
        assert {found.axis.grade, found.main.grade, found.default.grade} == {"unknown"}
        assert "map the model again" in found.axis.reasons[0]


def test_the_middle_layer_is_the_nearest_of_the_best():
    good, ones = np.full(10, 0.9), np.ones(10)
    assert choose_layer(good, good, good, ones) == 5
    bad = good.copy()
    bad[4:7] = 0.6
    # Weak at 4 to 6; of those where it is found, 3 and 7 are as near, and the later one is taken.
    assert choose_layer(bad, good, good, ones) == 7
    assert choose_layer(np.zeros(10), good, good, ones) == 5
    # Good at both ends alone: the middle half of the depth is what counts.
    ends = np.full(10, 0.6)
    ends[[0, 1, 8, 9]] = 0.9
    assert choose_layer(ends, good, good, ones) == 5
    for few in (1, 2, 3):
        assert choose_layer(good[:few], good[:few], good[:few], ones[:few]) == few // 2


def test_another_verdict_with_the_other_vectors_is_said_and_an_equal_one_is_not():
    weak = other_vectors(stats(split_half=0.6, default_percentile=(0.5, 0.5)), checks(), "rubric", 0)
    assert weak == OtherVectors("rubric", 0, "weak", "found", "not found")
    (warning,) = verdict_at(stats(), checks(other=weak), 1).warnings
    assert "all responses with the score 3 (--vectors rubric)" in warning
    assert warning.endswith("axis weak; main component: found; default at its end: not found")
    same = other_vectors(stats(), checks(), "rubric", 0)
    assert verdict_at(stats(), checks(other=same), 1).warnings == ()


def test_a_component_nearer_to_the_axis_than_the_first_is_named():
    swapped = verdict_at(stats(cos_axis_pc1=0.01), checks(cosines=[[1.0], [0.01, -0.71, 0.2]]), 1)
    assert swapped.main.reasons[-1] == "the axis lies nearer to PC2: cosine 0.71"
    by_chance = verdict_at(stats(cos_axis_pc1=0.01), checks(cosines=[[1.0], [0.01, 0.45]]), 1)
    first = verdict_at(stats(), checks(cosines=[[0.1, 0.9], [0.85, 0.3]]), 1)
    assert not any("nearer" in reason for one in (by_chance, first) for reason in one.main.reasons)
