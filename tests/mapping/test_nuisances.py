"""Length, form and manner: what a component may follow instead of a persona."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest

from personascope.engines import Completion
from personascope.errors import SpaceError
from personascope.mapping import RunSums, run_map
from personascope.mapping._adjust import LengthAdjusted
from personascope.mapping._length import find_length, stored_length
from personascope.mapping._map import make_space
from personascope.mapping._nuisances import measure
from personascope.space import NUISANCES, PersonaMap, correlate
from personascope.store import RunFolder


def nuisances(text: str, **more) -> dict[str, float]:
    row = {
        "id": "a/p0/q0/s0",
        "role": "pirate",
        "system_prompt": "You are a pirate.",
        "question": "What is rain?",
        "text": text,
        "token_count": 20,
        "finish_reason": "length",
        **more,
    }
    return dict(zip(NUISANCES, measure(row, "Sails and robs."), strict=True))


def test_what_is_measured_of_a_response():
    plain = nuisances("Rain is water that falls from clouds when the air cools.")
    assert plain["length"] == pytest.approx(np.log1p(20)) and plain["having ended"] == 0
    assert [plain[name] for name in NUISANCES[2:]] == [0, 0, 0, 0, 0]
    assert nuisances("It ends.", finish_reason="stop")["having ended"] == 1
    assert nuisances("Causes:\n- warm air\n- cold air")["lists and markdown"] == 1
    assert nuisances("This is **very** wet.")["lists and markdown"] == 1
    assert nuisances("5 * 3 is 15, and 2*2 is 4.")["lists and markdown"] == 0
    assert nuisances("雨是从云中落下的水。")["another script"] == 1
    assert nuisances("L'été à Orléans, où il pleut.")["another script"] == 0
    assert nuisances("As an AI language model, I have no opinion.")["naming itself an AI"] == 1
    assert nuisances("I tell you my name: I am Jack.")["first person"] == pytest.approx(3 / 8)
    assert nuisances("rain rain rain rain rain rain rain rain rain rain rain rain")["garble"] == 1


def test_correlations_are_over_roles_and_nothing_correlates_with_what_does_not_vary():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 40, 5))
    components = np.stack([np.linalg.qr(rng.normal(size=(5, 5)))[0].T for _ in range(2)])
    mean = vectors.mean(axis=1)
    projections = rng.normal(size=(2, 40))
    values = np.stack([projections[0], (vectors[1] - mean[1]) @ components[1, 2], np.full(40, 3.0)], axis=1)
    found = correlate(values, projections, vectors, mean, components)
    assert found.shape == (2, 3, 4)
    assert found[0, 0, 0] == pytest.approx(1.0) and found[1, 1, 3] == pytest.approx(1.0)
    assert not found[:, 2].any()
    want = np.corrcoef(values[:, 1], (vectors[0] - mean[0]) @ components[0, 1])[0, 1]
    assert found[0, 1, 2] == pytest.approx(want)


class Wordy(fakes.FakeEngine):
    """Roles whose only difference is the length of their answers, which moves the activations one way."""

    def run(self, requests):
        for request in requests:
            name, _, question, _ = request.id.split("/")
            rng = np.random.default_rng(fakes.number(request.id))
            place = 0 if name == "default" else int(name[4:]) + 1
            count = 4 + place + int(rng.integers(6))
            pooled = 0.05 * rng.standard_normal((3, 8)).astype(np.float32)
            pooled[:, 0] += 3 * np.log(count)
            pooled[:, 1] += 0.5 * (name == "default") + fakes.number(question) % 5
            pooled[:, 2] += 0.1 * (fakes.number(name) % 7)
            yield Completion(
                request.id,
                "word " * count,
                tuple(range(count)),
                "stop",
                9,
                pooled,
                count,
                logprobs=fakes.logprobs(fakes.number(request.id), count),
            )


def test_length_can_be_regressed_out(tmp_path: Path):
    engine = Wordy()
    design = fakes.design_for(engine, corpus=fakes.corpus(20), keep="all")
    fakes.run(tmp_path, engine=engine, design=design)
    folder = RunFolder.read(tmp_path)
    as_it_is, _ = make_space(folder, design, engine.info, vectors="rubric", n_boot=10)
    adjusted, _ = make_space(folder, design, engine.info, vectors="rubric", adjust_length=True, n_boot=10)
    length = np.array([1, 0, 0, 0, 0, 0, 0, 0.0])
    assert abs(as_it_is.components[1, 0] @ length) > 0.95
    assert abs(adjusted.components[1, 0] @ length) < 0.3
    # The default's own difference is not a matter of length, and stays.
    unit = adjusted.axis[1] / np.linalg.norm(adjusted.axis[1])
    assert unit[1] > 0.9
    sums = LengthAdjusted(RunSums(folder, design, 3, 8, vectors="rubric"), folder, "rubric")
    np.testing.assert_allclose(sums._slopes[:, 0], 3.0, atol=0.1)
    np.testing.assert_allclose(sums._slopes[:, 1:], 0.0, atol=0.1)


def test_too_few_kept_responses_give_no_slope(tmp_path: Path):
    engine = fakes.FakeEngine()
    design = fakes.design_for(engine, keep=5)
    fakes.run(tmp_path, engine=engine, design=design)
    with pytest.raises(SpaceError, match="do not suffice to regress"):
        make_space(RunFolder.read(tmp_path), design, engine.info, adjust_length=True, n_boot=10)


class Writing(fakes.FakeEngine):
    """Ends after as many tokens as the request's id says, if it is let; what it says settles after some."""

    def __init__(self, ends: int, settles: int) -> None:
        super().__init__()
        self.ends, self.settles = ends, settles
        self.limits: list[int] = []

    def run(self, requests):
        for request in requests:
            limit = request.sampling.max_new_tokens
            self.limits.append(limit)
            count = min(limit, self.ends)
            # Until it settles, every length is pooled to something else.
            key = request.id if count >= self.settles else f"{request.id} {count}"
            pooled = np.random.default_rng(fakes.number(key)).standard_normal((1, 8)).astype(np.float32)
            reason = "stop" if count < limit else "length"
            yield Completion(request.id, "x", tuple(range(count)), reason, 9, pooled, count)


@pytest.mark.parametrize(
    ("ends", "settles", "expected"),
    [(40, 999, 64), (90, 999, 100), (999, 60, 64), (999, 998, 256)],
)
def test_the_probe_takes_the_shortest_length_that_will_do(ends: int, settles: int, expected: int):
    engine = Writing(ends, settles)
    design = fakes.design_for(engine, fakes.Profile("p", None, 2, 8, 2, 64, 2, 2, longest=256))
    found = find_length(engine, design, 256)
    assert found.max_new_tokens == expected
    assert max(engine.limits) == 256 and len(engine.limits) >= 32


def test_a_run_is_taken_up_with_the_length_that_it_began_with(tmp_path: Path):
    profile = fakes.Profile("p", None, 2, 8, 6, 4, 2, 2, longest=8)
    run_map(fakes.FakeEngine(), fakes.corpus(), profile, out=tmp_path, judge=None, n_boot=10)
    length = stored_length(tmp_path, profile)
    assert length is not None and 4 <= length <= 8
    again = fakes.FakeEngine()
    run_map(again, fakes.corpus(), profile, out=tmp_path, judge=None, n_boot=10)
    assert again.generated == []
    found = PersonaMap.open(tmp_path / "map")
    assert found.checks is not None and found.checks.profile["max_new_tokens"] == length
    assert stored_length(tmp_path / "none", profile) is None
