"""Traits in a map: vectors and quantiles are right, the map stays as it is, and memory stays bounded."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from fakes_of_maps import map_run

from helpers import planted_traits as fakes
from personascope.calibration import Sample
from personascope.corpus import TraitEntry, TraitPair, TraitSet
from personascope.errors import EvaluationError, StoreError, UsageError
from personascope.space import PersonaMap
from personascope.space._meta import PERCENTILES
from personascope.store import RunFolder
from personascope.trait_vectors import kept_responses, resolve_trait_profile


def test_planted_traits_lie_where_they_were_put(tmp_path: Path) -> None:
    result = fakes.run(tmp_path, judge=fakes.PoleJudge())
    assert result.traits is not None
    for layer in range(fakes.N_LAYERS):
        places = result.traits.places(layer)
        assert [place.name for place in (places[0], places[-1])] == ["grounded", "dramatic"]
        assert places[0].cosine > 0.9 and places[-1].cosine < -0.9
        assert all(abs(place.cosine) < 0.3 for place in places[1:-1])
        assert all(place.low <= place.cosine <= place.high for place in places)
        assert all(place.reliability > 0.8 for place in places)
    with pytest.raises(UsageError, match="layer 3 is not in the map"):
        result.traits.places(3)


def test_a_map_stays_as_it_is(tmp_path: Path) -> None:
    persona_map = fakes.save_map(tmp_path / "map")
    files = {path.name: path.read_bytes() for path in (tmp_path / "map").iterdir()}
    assert persona_map.traits == () and persona_map.stale_traits == ()
    fakes.run(tmp_path, judge=None)
    again = PersonaMap.open(tmp_path)
    assert again.digest == persona_map.digest and [one.name for one in again.traits] == ["own"]
    assert {name: (tmp_path / "map" / name).read_bytes() for name in files} == files
    # The same map made once more keeps its traits; another map leaves them out.
    fakes.save_map(tmp_path / "map")
    assert [one.name for one in PersonaMap.open(tmp_path).traits] == ["own"]
    sums = fakes._Sums
    try:
        fakes._Sums = Shifted
        fakes.save_map(tmp_path / "map")
    finally:
        fakes._Sums = sums
    other = PersonaMap.open(tmp_path)
    assert other.traits == () and other.stale_traits == ("own",)
    engine = fakes.PlantedEngine(other.axis.astype(np.float64))
    result = fakes.run(tmp_path, judge=None, engine=engine)
    assert engine.generated == [], "only the axis is another one"
    assert result.traits is not None and result.traits.record.map == other.digest


class Shifted(fakes._Sums):
    def __init__(self) -> None:
        super().__init__()
        self.default = self.default + 1


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    fakes.run(tmp_path, judge=None)
    path = tmp_path / "map" / "traits" / "own" / "traits.json"
    path.write_text(path.read_text().replace('"min_pairs": 2', '"min_pairs": 1'))
    with pytest.raises(StoreError, match="changed since it was written"):
        _ = PersonaMap.open(tmp_path).traits


def test_quantiles_are_over_roles_and_traits_by_their_numbers(tmp_path: Path) -> None:
    engine = map_run(tmp_path)
    persona_map = PersonaMap.open(tmp_path)
    result = fakes.run(
        tmp_path,
        judge=None,
        engine=fakes.PlantedEngine(persona_map.axis.astype(np.float64), strength=30),
        run=tmp_path,
        profile=replace(fakes.SMALL, keep="all"),
    )
    assert engine.info.n_layers == persona_map.n_layers
    found = result.traits
    assert found is not None and found.population.name == "roles and traits"
    # 6 roles, 4 questions under 5 prompts each, less the empty ones; 20 of all were kept, the default's too.
    answered = sum(
        sum(row.values()) - row["empty"] for name, row in persona_map.counts.items() if name != "default"
    )
    assert found.population.responses == {"role": answered, "trait": 48}
    assert found.population.sample["trait"] == 48 and 0 < found.population.sample["role"] < 20
    unit = persona_map.axis[1] / np.linalg.norm(persona_map.axis[1])
    roles = [
        float(pooled[1] @ unit)
        for name, pooled in kept_responses(RunFolder.read(tmp_path))
        if not name.startswith("default/")
    ]
    of_traits = [
        float(pooled[1] @ unit) for _, pooled in kept_responses(RunFolder.read(tmp_path / "traits" / "own"))
    ]
    # A kept response of a role stands for `answered / kept`, one of a trait for itself.
    weights = np.concatenate([np.full(len(roles), answered / len(roles)), np.ones(48)])
    values = np.concatenate([roles, of_traits])
    order = np.argsort(values)
    below = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    wanted = np.interp(np.array(PERCENTILES) / 100, below, values[order])
    np.testing.assert_allclose(found.quantiles[1], wanted, atol=1e-6)


def test_floors_may_be_taken_over_roles_and_traits(tmp_path: Path) -> None:
    map_run(tmp_path)
    with pytest.raises(EvaluationError, match="no traits were run"):
        Sample.open(tmp_path, "roles and traits")
    with pytest.raises(UsageError, match="no population"):
        Sample.open(tmp_path, "all")
    before = Sample.open(tmp_path).project().floor_at_axis_percentile(25, 1)
    persona_map = PersonaMap.open(tmp_path)
    result = fakes.run(
        tmp_path,
        judge=None,
        engine=fakes.PlantedEngine(persona_map.axis.astype(np.float64), strength=30),
        run=tmp_path,
        profile=replace(fakes.SMALL, keep="all"),
    )
    assert Sample.open(tmp_path).project().floor_at_axis_percentile(25, 1) == before
    both = Sample.open(tmp_path, "roles and traits").project()
    assert sum(group.startswith("trait|") for group in both.groups) == 48
    assert result.traits is not None
    quantile = result.traits.quantiles[1, PERCENTILES.index(25)]
    assert both.floor_at_axis_percentile(25, 1) == pytest.approx(float(quantile), abs=1e-6)


class CountingEngine(fakes.PlantedEngine):
    """Makes responses as large as those of a model of billions, without keeping any."""

    def run(self, requests):
        for completion in super().run(requests):
            self.requests.clear()
            yield completion


def test_240_traits_of_the_paper_stay_in_fixed_memory(tmp_path: Path, monkeypatch) -> None:
    """40 questions under 5 pairs: 400 responses a trait, none of which may stay."""
    from personascope.trait_vectors import _design

    monkeypatch.setattr(fakes, "save_map", wide_map)
    # 8 layers of 256 are 8 KB a response; 40 traits are 16,000 responses, 131 MB, and units hold 1 MB.
    monkeypatch.setattr(_design, "UNIT_BYTES", 2**20)
    profile = replace(resolve_trait_profile("paper"), max_new_tokens=4, keep=64)
    peaks = {}
    for count in (10, 40):
        folder = tmp_path / str(count)
        persona_map = wide_map(folder / "map")
        found = many(count)
        engine = CountingEngine(persona_map.axis.astype(np.float64))
        work = partial(fakes.run, folder, engine=engine, profile=profile, found=found, n_draws=20)
        peaks[count] = peak_of(work)
        assert len(engine.generated) == count * 400
    # Beside the vectors (8 KB a trait, held a few times) nothing grows with the number of traits.
    assert peaks[40] - peaks[10] < 24 * 2**20, peaks


def many(count: int) -> TraitSet:
    def pairs(n: int) -> tuple[TraitPair, ...]:
        return tuple(TraitPair(f"Be {n} {p}.", f"Not {n} {p}.") for p in range(5))

    entries = tuple(TraitEntry(f"trait_{n:03}", "g", f"Trait {n}.", pairs(n)) for n in range(count))
    return TraitSet("many", entries, (), "test")


def peak_of(work) -> int:
    """Return how far the resident memory of this process rises while it works, in bytes."""
    process, done, seen = psutil.Process(), threading.Event(), [0]
    begun = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.01):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return seen[0] - begun


def wide_map(folder: Path) -> PersonaMap:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fakes, "N_LAYERS", 8)
        patch.setattr(fakes, "D", 256)
        return SAVE(folder)


SAVE = fakes.save_map
