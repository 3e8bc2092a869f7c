"""Places in the persona space and positions by layer: against the engine's own means, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_case import FLOOR, Served, serving, tokens_of

from eval_case import engine
from helpers import planted_traits
from interop import release_case
from personascope.chat import Message
from personascope.engines import Capture, Completion, Probe, ProbeSet, Request, Sampling
from personascope.interop import open_map
from personascope.interop._import import import_released
from personascope.live import Positions
from personascope.live._space import SpaceReader

BOTH = {"space": True, "layers": True}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("space")) as found:
        yield found


def pooled(plan: Any = None) -> Completion:
    """Return the engine's own completion, with the mean of its residual stream at every layer."""
    asked = Request(
        "chat",
        (Message("user", "What is rain?"),),
        Sampling(0.0, 1.0, 12),
        plan=plan,
        capture=Capture(),
        seed=0,
    )
    (done,) = engine().run([asked])
    return done


@pytest.mark.parametrize("capped", [False, True])
def test_a_reply_lies_where_its_mean_lies(served: Served, capped: bool) -> None:
    plan = served.plan if capped else None
    told = served.chat(field={**BOTH, "plan": "high floor" if capped else None}, seed=0)["personascope"]
    persona_map, done = served.mapped.persona_map, pooled(plan)
    assert done.pooled is not None
    at = persona_map.middle_layer
    offset = done.pooled[at].astype(np.float64) - persona_map.mean(at)
    components = persona_map.components(at)[:3].astype(np.float64)
    assert told["answer"]["space"] == pytest.approx((components @ offset).tolist(), abs=2e-3)
    roles = persona_map.role_vectors(at).astype(np.float64) - persona_map.mean(at)
    cosines = roles @ offset / np.linalg.norm(roles, axis=1) / np.linalg.norm(offset)
    best = np.argsort(-cosines)[:5]
    assert [one["name"] for one in told["nearest"]["roles"]] == [persona_map.roles[index] for index in best]
    assert told["nearest"]["roles"][0]["cosine"] == pytest.approx(cosines[best[0]], abs=1e-3)
    assert told["nearest"]["traits"] == []
    for layer in range(persona_map.n_layers):
        projection = float(persona_map.project(done.pooled, layer))
        wanted = persona_map.to_units(projection, layer)
        assert told["answer"]["layers"][layer] == pytest.approx(wanted, abs=5e-3)
    moved = np.array(told["answer"]["layers"]) - told["answer"]["layers_before"]
    assert abs(moved[at]) > 0.5 if capped else not moved.any()
    assert (told["answer"]["space"] != told["answer"]["space_before"]) == capped


def test_tokens_have_a_position_at_every_layer_in_a_stream(served: Served) -> None:
    persona_map = served.mapped.persona_map
    at, found = persona_map.middle_layer, served.stream(field={"layers": True, "plan": "high floor"}, seed=0)
    tokens = tokens_of(found)
    assert len(tokens) > 4
    for token in tokens:
        assert len(token["layers"]) == persona_map.n_layers == len(token["layers_before"])
        assert token["layers"][at] == pytest.approx(token["position"], abs=2e-3)
        assert token["layers_before"][at] == pytest.approx(token["before"], abs=2e-3)
        assert token["layers"][at] == pytest.approx(persona_map.to_units(FLOOR, at), abs=2e-3)


def test_nothing_of_it_is_sent_unasked_and_a_clients_probes_stay_theirs(served: Served) -> None:
    plain = served.chat(field={"positions": True})["personascope"]
    assert "nearest" not in plain and {"space", "layers"}.isdisjoint(plain["answer"])
    assert "layers" not in plain["tokens"][0]
    persona_map = served.mapped.persona_map
    at = persona_map.middle_layer
    both = served.chat(field={**BOTH, "pool": True}, seed=0)["personascope"]
    alone = served.chat(field={"space": True}, seed=0)["personascope"]
    assert both["pooled"]["shape"][0] == persona_map.n_layers and both["nearest"] == alone["nearest"]
    mine = ProbeSet.of((Probe("mine", at, persona_map.unit_axis(at)),))
    digest = served.service.admission.store.put(mine)
    options = {"temperature": 0.9, "seed": 3, "max_tokens": 40}
    told = [served.chat(field=field, **options) for field in ({"positions": True}, BOTH)]
    assert told[0]["choices"] == told[1]["choices"]
    raw = served.chat(field={**BOTH, "probes": digest}, seed=0)["personascope"]
    positions = [persona_map.to_units(value, at) for value in raw["projections"]["mine"]]
    assert positions == pytest.approx([token["position"] for token in raw["tokens"]], abs=1e-3)


def test_the_space_is_described(served: Served) -> None:
    persona_map = served.mapped.persona_map
    at = persona_map.middle_layer
    found = served.http("GET", "/v1/personascope/space").json()
    assert [role["name"] for role in found["roles"]] == list(persona_map.roles)
    components = persona_map.components(at)[:3].astype(np.float64)
    first = persona_map.role_vector(persona_map.roles[0])[at] - persona_map.mean(at)
    assert found["roles"][0]["at"] == pytest.approx((components @ first).tolist(), abs=2e-3)
    assert found["variance"] == pytest.approx(persona_map.stats.variance_ratio[at][:3].tolist(), abs=1e-3)
    assert found["axis"][0] > 0 and found["traits"] == [] and found["layer"] == at
    about = served.http("GET", "/v1/personascope/about").json()
    assert about["map"]["digest"] == persona_map.digest
    raw = about["map"]["projections"]
    assert (raw["mean_role"], raw["default"]) == pytest.approx(persona_map.units(at))


def test_what_cannot_be_told_is_refused(served: Served, tmp_path: Path) -> None:
    message = [{"role": "user", "content": "Hi"}]
    for field, word in (
        ({"space": 1}, "give true or false"),
        ({"space": True, "positions": False}, "space needs positions"),
        ({"layers": True, "positions": False}, "layers needs positions"),
    ):
        assert word in served.refused(400, json={"messages": message, "personascope": field})
    with serving(tmp_path, with_map=False) as bare:
        assert "--map" in bare.refused(400, json={"messages": message, "personascope": {"space": True}})
        answer = bare.http("GET", "/v1/personascope/space")
        assert answer.status_code == 404 and "--map" in answer.json()["error"]["message"]


def test_the_traits_of_a_map_are_told_too(tmp_path: Path) -> None:
    persona_map = planted_traits.save_map(tmp_path / "map")
    planted_traits.run(tmp_path, judge=None)
    at = persona_map.middle_layer
    reader = SpaceReader.of(persona_map, at)
    (traits,) = persona_map.traits
    assert set(reader.traits) == set(traits.traits) == set(reader.description()["traits"])
    for name in ("grounded", "dramatic"):
        away = persona_map.mean(at) + 3 * traits.vector(name)[at]
        first = reader.nearest(away)["traits"][0]
        assert (first["name"], first["cosine"]) == (name, pytest.approx(1.0, abs=1e-3))


def test_an_imported_release_has_positions_by_layer_and_no_space(tmp_path: Path) -> None:
    import_released(release_case.write(tmp_path / "theirs", release_case.make())).save(tmp_path / "ours")
    release = open_map(tmp_path / "ours")
    positions = Positions.of(release)
    assert positions.space is None and not positions.has_percentiles
    assert positions.layers.layers == tuple(range(release.n_layers))
    default = np.array([release.units(layer)[1] for layer in range(release.n_layers)])
    assert positions.layers.positions(default) == [1.0] * release.n_layers
    told = positions.description()
    assert (told["digest"], told["space"]) == (release.digest, False)
