import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from space_sums import PlantedSums

from personascope.errors import SpaceError, StoreError, UsageError
from personascope.space import (
    NUISANCES,
    MapChecks,
    MapMeta,
    MapModel,
    PersonaMap,
    Quantiles,
    RolePlay,
    build_space,
    position,
    projection_quantiles,
)
from personascope.space import _save as save_module
from personascope.space._meta import PERCENTILES

MODEL = MapModel("some/model", "abc", "bfloat16", 3, 24, "f00d")
SAME = {"model_id": "some/model", "revision": "abc", "n_layers": 3, "d_model": 24, "chat_digest": "f00d"}


@pytest.fixture(scope="module")
def space():
    sums = PlantedSums(n_roles=8, n_layers=3, d=24, somewhat=2)
    sums._counts["fully"][7] = 0
    return build_space(sums, min_fully=4, min_somewhat=4, n_boot=20, n_splits=5)


@pytest.fixture
def meta(space):
    rng = np.random.default_rng(0)
    sample = [rng.normal(size=(5, 3, 24)) for _ in range(3)]
    quantiles = Quantiles(projection_quantiles(space.axis, sample), projection_quantiles(space.axis, sample))
    return MapMeta(
        model=MODEL,
        corpus_digest="c0",
        versions={"torch": "2"},
        command="map x",
        response_norms=np.arange(1.0, 4.0),
        quantiles=quantiles,
        unscored={"role001": 2},
        empty={"default": 1},
    )


@pytest.fixture
def folder(tmp_path, space, meta):
    PersonaMap.save(tmp_path / "map", space, meta)
    return tmp_path / "map"


def test_round_trip(folder, space, meta):
    opened = PersonaMap.open(folder)
    opened.verify()
    np.testing.assert_array_equal(opened.axis, space.axis)
    np.testing.assert_array_equal(opened.default_vector, space.default_vector)
    np.testing.assert_array_equal(opened.role_vector("role003"), space.role_vectors[:, 3])
    np.testing.assert_array_equal(opened.role_vectors(1), space.role_vectors[1])
    np.testing.assert_array_equal(opened.somewhat_vector("role007"), space.somewhat_vectors[:, 7])
    np.testing.assert_array_equal(opened.components(2), space.components[2])
    np.testing.assert_array_equal(opened.mean(0), space.mean[0])
    np.testing.assert_array_equal(opened.response_norms, [1, 2, 3])
    np.testing.assert_array_equal(opened.quantiles.role, meta.quantiles.role)
    for name in space.stats.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(opened.stats, name), getattr(space.stats, name))
    assert opened.roles == space.roles
    assert opened.excluded == {"role007": 0}
    assert opened.counts["role001"]["unscored"] == 2
    assert opened.counts["default"]["empty"] == 1
    assert opened.model == MODEL
    assert (opened.middle_layer, opened.corpus_digest, opened.command) == (1, "c0", "map x")
    assert opened.versions == {"torch": "2"}


def test_projection_and_units(folder, space):
    opened = PersonaMap.open(folder)
    assert np.linalg.norm(opened.unit_axis(1)) == pytest.approx(1, abs=1e-6)
    places = opened.project(space.default_vector)
    np.testing.assert_allclose(places, space.stats.default_projection, rtol=1e-4)
    one = opened.project(np.stack([space.default_vector, space.role_vectors.mean(axis=1)]), layer=2)
    assert one.shape == (2,)
    np.testing.assert_allclose(opened.to_units(one, 2), [1, 0], atol=1e-4)
    with pytest.raises(UsageError, match=r"\(3, 24\)"):
        opened.project(np.zeros((4, 24)))
    with pytest.raises(UsageError, match="layer 3"):
        opened.unit_axis(3)
    with pytest.raises(UsageError, match="too few"):
        opened.role_vector("role007")
    with pytest.raises(UsageError, match="not a role"):
        opened.role_vector("nobody")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("revision", "zzz", "revision"),
        ("n_layers", 4, "number of layers"),
        ("d_model", 25, "width"),
        ("chat_digest", "dead", "chat template"),
    ],
)
def test_another_model_is_refused(folder, key, value, words):
    opened = PersonaMap.open(folder)
    opened.check_model(**SAME)
    with pytest.raises(StoreError, match=words):
        opened.check_model(**(SAME | {key: value}))


def test_the_same_files_under_another_name_are_the_same_model(folder):
    opened = PersonaMap.open(folder)
    opened.check_model(**(SAME | {"model_id": "elsewhere"}))
    with pytest.raises(StoreError, match=r"is of the model 'some/model'.*another name"):
        opened.check_model(**(SAME | {"model_id": "elsewhere", "revision": ""}))


def test_positions_are_one_formula_everywhere(folder):
    opened = PersonaMap.open(folder)
    mean_role, default = opened.units(2)
    assert opened.to_units(mean_role, 2) == 0.0 and opened.to_units(default, 2) == 1.0
    assert position(mean_role + 0.25 * (default - mean_role), mean_role, default) == pytest.approx(0.25)
    with pytest.raises(UsageError, match="layer 99"):
        opened.units(99)


@pytest.mark.parametrize("name", ["map.json", "map.safetensors"])
def test_missing_and_truncated_files_are_named(folder, name):
    path = folder / name
    data = path.read_bytes()
    for part in (data[: len(data) // 2], b""):
        path.write_bytes(part)
        with pytest.raises(StoreError, match=name):
            PersonaMap.open(folder)
    path.unlink()
    with pytest.raises(StoreError, match=name):
        PersonaMap.open(folder)


def test_mixed_changed_and_future_maps_are_refused(folder, tmp_path, space, meta):
    PersonaMap.save(tmp_path / "b", replace(space, axis=space.axis * 2), meta)
    data = bytearray((folder / "map.safetensors").read_bytes())
    (folder / "map.safetensors").write_bytes((tmp_path / "b" / "map.safetensors").read_bytes())
    with pytest.raises(StoreError, match="different maps"):
        PersonaMap.open(folder)
    data[-1] ^= 1
    (folder / "map.safetensors").write_bytes(data)
    with pytest.raises(StoreError, match="was changed"):
        PersonaMap.open(folder).verify()
    record = json.loads((folder / "map.json").read_text())
    (folder / "map.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(StoreError, match="format 99"):
        PersonaMap.open(folder)


def test_a_failed_write_leaves_the_old_map_and_nothing_else(folder, space, meta, monkeypatch):
    before = (folder / "map.safetensors").read_bytes()

    def full(_tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(save_module, "save_file", full)
    with pytest.raises(StoreError, match="No space left"):
        PersonaMap.save(folder, space, meta)
    assert (folder / "map.safetensors").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["map"]
    with pytest.raises(StoreError):
        PersonaMap.save(folder.parent / "new", space, meta)
    assert [p.name for p in folder.parent.iterdir()] == ["map"]


def test_replacing_keeps_other_files_and_a_foreign_folder_is_refused(folder, space, meta, tmp_path):
    (folder / "report.html").write_text("x")
    PersonaMap.save(folder, space, meta)
    assert sorted(p.name for p in folder.iterdir()) == ["map.json", "map.safetensors", "report.html"]
    PersonaMap.open(folder).verify()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="not a map"):
        PersonaMap.save(tmp_path / "home", space, meta)


def test_quantiles_match_numpy_and_refuse_bad_samples(space):
    x = np.random.default_rng(1).normal(size=(50, 3, 24))
    got = projection_quantiles(space.axis, [x[:20], x[20:]])
    unit = space.axis / np.linalg.norm(space.axis, axis=1, keepdims=True)
    np.testing.assert_allclose(got[1, 4], np.median(x[:, 1] @ unit[1]), atol=1e-6)
    with pytest.raises(SpaceError, match="empty"):
        projection_quantiles(space.axis, [])
    with pytest.raises(SpaceError, match="do not fit"):
        projection_quantiles(space.axis, [x[:, :2]])


def test_percentile_among_role_responses(folder, meta):
    opened = PersonaMap.open(folder)
    for layer in range(3):
        stored = meta.quantiles.role[layer]
        np.testing.assert_allclose(opened.percentile(stored, layer), PERCENTILES)
        between = (stored[3] + stored[4]) / 2
        assert opened.percentile(between, layer) == pytest.approx((25 + 50) / 2)
        assert isinstance(opened.percentile(float(between), layer), float)
        assert opened.percentile(stored[0] - 5, layer) == 1
        assert opened.percentile(stored[-1] + 5, layer) == 99
    assert np.isnan(opened.percentile(float("nan"), 0))
    assert opened.percentile(np.zeros((2, 3)), 0).shape == (2, 3)
    with pytest.raises(UsageError, match="layer 3 is not in the map"):
        opened.percentile(0.0, 3)


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_percentile_keeps_the_order_of_projections(kept, values):
    found = kept.percentile(np.sort(values), 1)
    assert (np.diff(found) >= 0).all() and found.min() >= 1 and found.max() <= 99


@pytest.fixture(scope="module")
def kept(tmp_path_factory, space):
    sample = [np.random.default_rng(3).normal(size=(9, 3, 24))]
    found = projection_quantiles(space.axis, sample)
    folder = tmp_path_factory.mktemp("kept") / "map"
    PersonaMap.save(folder, space, MapMeta(MODEL, "c0", {}, "map x", np.ones(3), Quantiles(found, found)))
    return PersonaMap.open(folder)


PROFILE = {"name": "quick", "seed": 3, "roles": 8, "prompts": None, "questions": 4, "max_new_tokens": 9}


def with_checks(meta):
    return replace(
        meta,
        checks=MapChecks(
            design="sampled (2)",
            profile=PROFILE,
            vectors="played",
            threshold=0.125,
            roles={"role001": RolePlay(8, 3, 0.25)},
            cut=0.5,
            garbled=0.0,
            perplexity=3.5,
            correlations=np.linspace(-1, 1, 3 * len(NUISANCES) * 4).reshape(3, len(NUISANCES), 4),
            n_roles=7,
            length_adjusted=True,
            judges={"rules": 5, "openai:m@http://h/v1": 3},
        ),
    )


def test_checks_come_back_and_the_map_says_its_design(tmp_path, space, meta):
    PersonaMap.save(tmp_path / "map", space, with_checks(meta))
    opened = PersonaMap.open(tmp_path / "map")
    wanted = with_checks(meta).checks
    found = opened.checks
    np.testing.assert_array_equal(found.correlations, wanted.correlations)
    assert asdict(replace(found, correlations=None)) == asdict(replace(wanted, correlations=None))
    assert found.played == 3 / 8 and found.information == 0.25
    assert opened.design == "sampled (2)"
    assert opened.verdict().headline in repr(opened)


def test_damaged_checks_are_named(tmp_path, space, meta):
    PersonaMap.save(tmp_path / "map", space, with_checks(meta))
    path = tmp_path / "map" / "map.json"
    record = json.loads(path.read_text())
    for damage, said in (
        ({"roles": {"a": {"played": 1}}}, r"'checks\.roles\.a\.responses' is missing"),
        ({"roles": None}, r"'checks\.roles' is None"),
        ({"profile": {"name": "quick"}}, r"'checks\.profile\.seed' is missing"),
        ({"cut": "half"}, r"'checks\.cut' is 'half': Input should be a valid number"),
    ):
        path.write_text(json.dumps(record | {"checks": record["checks"] | damage}))
        with pytest.raises(StoreError, match=said):
            PersonaMap.open(tmp_path / "map")


def test_wrong_shapes_of_checks_are_refused(tmp_path, space, meta):
    given = with_checks(meta)
    wrong = replace(given, checks=replace(given.checks, correlations=np.zeros((2, 2, 4))))
    with pytest.raises(SpaceError, match="correlations"):
        PersonaMap.save(tmp_path / "map", space, wrong)


def test_a_map_of_the_first_design_opens_and_has_no_verdict(folder, space):
    """Written before there were checks, corrected cosines and reliabilities."""
    later = {
        "stats.cos_axis_pc1_corrected",
        *(f"stats.{name}" for name in ("role_spread", "prompt_spread")),
        *(f"stats.{kind}_reliability{end}" for kind in ("role", "prompt") for end in ("", "_interval")),
    }
    path, tensors = folder / "map.json", folder / "map.safetensors"
    record = json.loads(path.read_text())
    kept = {name: value for name, value in load_file(tensors).items() if name not in later}
    assert set(record["tensors"]) - set(kept) == later
    save_file(kept, tensors, metadata={"pair": record["pair"]})
    for later_field in ("checks", "digests", "checksum"):
        del record[later_field]
    record["tensors"] = sorted(kept)
    record["sha256"] = hashlib.sha256(tensors.read_bytes()).hexdigest()
    path.write_text(json.dumps(record))
    opened = PersonaMap.open(folder)
    assert opened.checks is None and "(1)" in opened.design
    verdict = opened.verdict()
    assert {verdict.axis.grade, verdict.main.grade, verdict.default.grade} == {"unknown"}
    stats = opened.stats
    np.testing.assert_array_equal(stats.cos_axis_pc1, space.stats.cos_axis_pc1)
    assert stats.role_reliability.shape == (3,) and np.isnan(stats.role_reliability).all()
    assert stats.role_reliability_interval.shape == (3, 2)
    assert "unknown" in repr(opened)


def flip_in(path, name, place=0):
    """Flip one bit of a tensor in a safetensors file."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + length])[name]["data_offsets"]
    data[8 + length + (start + place) % end] ^= 1
    path.write_bytes(data)


READS = {
    "axis": lambda opened: opened.unit_axis(1),
    "default_vector": lambda opened: opened.default_vector,
    "role_vectors": lambda opened: opened.role_vectors(0),
    "components": lambda opened: opened.components(0),
    "mean": lambda opened: opened.mean(1),
    "response_norms": lambda opened: opened.response_norms,
    "quantiles.role": lambda opened: opened.percentile(0.0, 0),
    "stats.mean_projection": lambda opened: opened.stats,
}


@pytest.mark.parametrize("name", sorted(READS))
def test_one_bit_flipped_in_a_tensor_is_noticed_where_it_is_read(folder, name):
    READS[name](PersonaMap.open(folder))
    flip_in(folder / "map.safetensors", name)
    opened = PersonaMap.open(folder)
    with pytest.raises(StoreError, match=rf"{name}.* was changed since it was written"):
        READS[name](opened)
    if name == "role_vectors":
        opened.role_vectors(1)
        with pytest.raises(StoreError, match="role_vectors of layer 0"):
            opened.role_vector(opened.roles[0])


def test_an_earlier_map_is_compared_as_a_whole_when_it_is_opened(folder):
    path = folder / "map.json"
    record = json.loads(path.read_text())
    for later in ("digests", "checksum"):
        del record[later]
    path.write_text(json.dumps(record))
    PersonaMap.open(folder).role_vector(PersonaMap.open(folder).roles[0])
    flip_in(folder / "map.safetensors", "components")
    with pytest.raises(StoreError, match=r"map\.safetensors was changed since it was written"):
        PersonaMap.open(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"middle_layer": 99}, "'middle_layer' is 99"),
        ({"middle_layer": "1"}, "'middle_layer' is '1': Input should be a valid integer"),
        ({"model": {"id": "x"}}, r"'model\.revision' is missing"),
        ({"roles": []}, "'roles'"),
        ({"roles": ["role001", "role001"]}, "names a role twice"),
        ({"roles": ["nobody"]}, "lacks the role 'nobody'"),
        ({"counts": {"role001": {"fully": None}}}, r"'counts\.role001\.fully' is None"),
        ({"percentiles": [5, 1]}, "does not ascend"),
        ({"percentiles": [1, 5]}, r"quantiles\.default has shape \[3, 9\]"),
        ({"tensors": ["axis", "more"]}, "the tensors more are missing"),
        ({"stats": [1]}, "'stats'"),
        ({"digests": {"axis": "00"}}, "'digests' lacks"),
        ({"command": "map another"}, "was changed since it was written"),
    ],
)
def test_a_field_that_cannot_be_is_named(folder, change, said):
    path = folder / "map.json"
    record = json.loads(path.read_text()) | change
    if "was changed" not in said:
        del record["checksum"]
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match=said) as caught:
        PersonaMap.open(folder)
    assert "map.json" in caught.value.message
