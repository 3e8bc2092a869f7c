"""From a map and a run to the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import planted_traits
from personascope.corpus import Corpus, Question, RoleEntry
from personascope.errors import StoreError, UsageError
from personascope.report import collect, write_report
from personascope.report.map_page._traits import trait_rows
from personascope.space import MapMeta, MapModel, PersonaMap, Quantiles, build_space

ROLES = ("bard", "clerk", "ghost", "judge", "quiet", "scout")
LAYERS, WIDTH, FOLDS = 4, 12, 5
CORPUS = Corpus(
    "made up",
    tuple(RoleEntry(name, "myth", f"Plays the {name}.", ("Be it.",) * 5) for name in ROLES),
    (Question("q1", "", "Who are you?"),),
    ("",) * 5,
    "here",
)


@dataclass
class Sums:
    """Fold sums of normal noise about a place of each role's own; "quiet" hardly speaks in its role."""

    roles: tuple[str, ...] = ROLES
    n_layers: int = LAYERS
    d_model: int = WIDTH
    n_folds: int = FOLDS
    fold_design: None = None

    def counts(self, bucket):
        sizes = {"fully": 4, "plain": 0, "somewhat": 1, "other": 1}
        per_fold = np.full((len(ROLES), FOLDS), sizes[bucket], np.int64)
        if bucket == "fully":
            per_fold[ROLES.index("quiet")] = 0
            per_fold[ROLES.index("quiet"), 0] = 2
        return per_fold

    def default_counts(self):
        return np.full(FOLDS, 8, np.int64)

    def sums(self, bucket, layer):
        rng = np.random.default_rng([layer, len(bucket)])
        places = np.random.default_rng(layer).normal(size=(len(ROLES), 1, WIDTH)) * 3
        noise = rng.normal(size=(len(ROLES), FOLDS, WIDTH))
        return ((places + noise) * self.counts(bucket)[..., None]).astype(np.float32)

    def default_sums(self, layer):
        rng = np.random.default_rng(99 + layer)
        return ((5 + rng.normal(size=(FOLDS, WIDTH))) * 8).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> PersonaMap:
    folder = tmp_path_factory.mktemp("map") / "map"
    space = build_space(Sums(), n_boot=20, n_splits=5)
    flat = np.zeros((LAYERS, 9))
    meta = MapMeta(
        model=MapModel("acme/tiny", "abc123", "float32", LAYERS, WIDTH, "chat"),
        corpus_digest=CORPUS.digest,
        versions={"personascope": "0"},
        command="personascope map",
        response_norms=np.ones(LAYERS),
        quantiles=Quantiles(flat, flat),
        unscored={"bard": 2},
    )
    PersonaMap.save(folder, space, meta)
    return PersonaMap.open(folder)


def write_unit(run: Path, name: str, rows: list[dict]) -> None:
    folder = run / "units" / name
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "rollouts.parquet")


def row(role: str, index: int, score: int | None, text: str, status: str = "scored") -> dict:
    return {
        "role": role,
        "prompt_index": 0,
        "question_index": index,
        "question": "Who are you?",
        "text": text,
        "score": score,
        "status": status,
    }


@pytest.fixture
def run(tmp_path) -> Path:
    bard = [row("bard", i, 3, f"sing {i}") for i in range(6)]
    bard += [row("bard", 7, 2, "hum"), row("bard", 8, 0, "No."), row("bard", 9, None, "?", "unscored")]
    write_unit(tmp_path, "00000", bard)
    write_unit(
        tmp_path, "00001", [row("default", 0, None, "I am an AI.", "default"), row("quiet", 0, 1, "x" * 7000)]
    )
    write_unit(tmp_path, "00002.tmp-17", [row("bard", 0, 3, "half written")])
    return tmp_path


def test_every_layer_has_the_places_of_the_map(made):
    data = collect(made, None, corpus=CORPUS)
    assert [view.layer for view in data.layers] == list(range(LAYERS))
    middle = data.layers[made.middle_layer]
    for role, point, raw in zip(data.roles, middle.points, middle.projections, strict=False):
        assert point == pytest.approx(role.point, rel=1e-3, abs=1e-3)
        assert raw == pytest.approx(role.projection, rel=1e-3)
    assert middle.default_point == pytest.approx(data.default.point, rel=1e-3, abs=1e-3)
    assert middle.axis == pytest.approx(data.axis, rel=1e-3, abs=1e-3)
    last = data.layers[-1]
    place = made.roles.index("clerk")
    assert last.projections[place] == pytest.approx(
        float(made.role_vector("clerk")[-1] @ made.unit_axis(LAYERS - 1)), rel=1e-3
    )
    assert (last.mean, last.default) == pytest.approx(made.units(LAYERS - 1))


def test_numbers_are_the_maps(made):
    data = collect(made, None, corpus=CORPUS)
    stats, middle = made.stats, made.middle_layer
    assert (data.model, data.revision, data.corpus, data.middle_layer) == (
        "acme/tiny",
        "abc123",
        "made up",
        2,
    )
    assert [f.label for f in data.figures] == [
        "cos(axis, PC1)",
        "Null of the cosine",
        "Split half",
        "Roles found again",
        "Default on PC1",
    ]
    assert [answer.grade for answer in data.verdict] == ["unknown"] * 3
    assert data.figures[0].value == pytest.approx(stats.cos_axis_pc1[middle])
    assert data.figures[0].low <= data.figures[0].high
    assert len(data.curves.cosine) == len(data.curves.null) == len(data.curves.split_half) == LAYERS
    clerk = next(r for r in data.roles if r.name == "clerk")
    unit = made.unit_axis(middle)
    assert clerk.projection == pytest.approx(float(made.role_vector("clerk")[middle] @ unit), abs=1e-4)
    assert clerk.low < clerk.projection < clerk.high
    centred = made.role_vector("clerk")[middle] - made.mean(middle)
    assert clerk.point == pytest.approx(made.components(middle)[:3] @ centred, abs=1e-4)
    assert data.default.projection > max(r.projection for r in data.roles if r.projection is not None)
    assert data.axis[0] == pytest.approx(stats.cos_axis_pc1[middle], abs=1e-5)
    assert (clerk.group, clerk.description) == ("myth", "Plays the clerk.")


def test_roles_without_a_vector_and_unscored_responses_are_told(made):
    data = collect(made, None, corpus=CORPUS)
    quiet = next(r for r in data.roles if r.name == "quiet")
    assert quiet.projection is None
    assert quiet.counts["fully"] == 2
    assert any("2 responses have no score" in text for text in data.warnings)
    assert any("1 role has fewer than 10" in text for text in data.warnings)


def test_samples_go_over_the_scores_and_are_the_same_every_time(made, run):
    data = collect(made, run, corpus=CORPUS, samples_per_role=4)
    bard = next(r for r in data.roles if r.name == "bard")
    assert bard.counts == {"score 3": 6, "score 2": 1, "score 0": 1, "unscored": 1}
    assert list(bard.counts) == ["score 3", "score 2", "score 0", "unscored"]
    assert [s.score for s in bard.samples] == [3, 2, 0, None]
    assert collect(made, run, corpus=CORPUS, samples_per_role=4) == data
    assert [s.text for s in data.default.samples] == ["I am an AI."]
    quiet = next(r for r in data.roles if r.name == "quiet")
    assert (len(quiet.samples[0].text), quiet.samples[0].cut) == (6000, 1000)
    assert data.samples_note == ""
    assert "half written" not in str(data)


@pytest.mark.parametrize("there", [False, True])
def test_missing_rollouts_are_noted(made, tmp_path, there):
    data = collect(made, tmp_path if there else None)
    assert "no sample answers" in data.samples_note
    assert (tmp_path.name in data.samples_note) == there
    assert not any(role.samples for role in data.roles)
    assert data.corpus == ""


def test_damaged_rollouts_are_refused(made, run):
    (run / "units/00001/rollouts.parquet").write_bytes(b"not parquet")
    with pytest.raises(StoreError, match="00001"):
        collect(made, run)


def test_rollouts_without_a_column_are_refused(made, tmp_path):
    write_unit(tmp_path, "00000", [{k: v for k, v in row("bard", 0, 3, "x").items() if k != "score"}])
    with pytest.raises(StoreError, match="score"):
        collect(made, tmp_path)


def test_another_corpus_is_refused(made):
    other = replace(CORPUS, questions=(Question("q1", "", "What are you?"),))
    with pytest.raises(UsageError, match="not the one of the map"):
        collect(made, None, corpus=other)
    with pytest.raises(UsageError, match="samples_per_role is -1"):
        collect(made, None, samples_per_role=-1)


def test_write_report_replaces_a_file_and_leaves_nothing_beside_it(made, run, tmp_path):
    out = tmp_path / "site" / "report.html"
    out.parent.mkdir()
    out.write_text("old")
    assert write_report(made, run, out, corpus=CORPUS) == out
    text = out.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "Plays the clerk." in text
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]
    with pytest.raises(StoreError, match="could not be written"):
        write_report(made, run, tmp_path / "nowhere" / "report.html")


def test_traits_of_a_map_are_ranked_and_explained(tmp_path):
    persona_map = planted_traits.save_map(tmp_path / "map")
    assert trait_rows(persona_map) == {"traits": (), "traits_notes": ()}
    planted_traits.run(tmp_path, judge=None)
    rows = trait_rows(persona_map)
    assert [row.name for row in (rows["traits"][0], rows["traits"][-1])] == ["grounded", "dramatic"]
    assert rows["traits"][0].low < rows["traits"][0].cosine < rows["traits"][0].high
    assert "6 of 6 pairs" in rows["traits"][0].note
    assert "No judge scored the responses" in rows["traits_notes"][0]
